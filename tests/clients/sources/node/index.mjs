export const handler = async (event, context) => {
  if (event.do === 'fail') throw new TypeError('boom')
  if (event.do === 'exit') process.exit(3)
  if (event.do === 'sleep') await new Promise((resolve) => setTimeout(resolve, 60_000))
  if (event.do === 'log') console.log('a line of the function')
  return {
    event,
    requestId: context.awsRequestId,
    arn: context.invokedFunctionArn,
    left: context.getRemainingTimeInMillis(),
    name: context.functionName,
    trace: process.env._X_AMZN_TRACE_ID ?? '',
  }
}

export const stream = awslambda.streamifyResponse(async (event, response) => {
  response.setContentType('text/plain')
  for (let part = 0; part < 3; part++) {
    response.write(`part ${part}\n`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  response.end()
})
