// Powertools for TypeScript, out of a layer: a batch of a queue with partial failures, and its logger.
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch'
import { Logger } from '@aws-lambda-powertools/logger'

const processor = new BatchProcessor(EventType.SQS)
const logger = new Logger({ serviceName: 'events' })

const record = async ({ body, messageId }) => {
  const event = JSON.parse(body)
  if (!event.type) throw new Error(`${messageId} has no type`)
  logger.info('seen', { type: event.type })
}

export const handler = async (event, context) => {
  logger.addContext(context)
  return processPartialResponse(event, record, processor, { context })
}
