// A topic's messages go on to a queue, through AWS's SDK for JavaScript.
import { GetQueueUrlCommand, SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs'

const sqs = new SQSClient({})
const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: process.env.QUEUE }))

export const handler = async (event) => {
  const sent = event.Records.map(({ Sns }) =>
    sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: `${Sns.Subject}: ${Sns.Message}` })))
  return (await Promise.all(sent)).map(({ MessageId }) => MessageId)
}
