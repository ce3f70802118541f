/** The second argument of a handler. */
'use strict'

const { RuntimeFailure } = require('./errors.cjs')

/**
 * @param headers of the invocation
 * @param settle (error, result) for done, fail and succeed, which older handlers call
 */
function makeContext(headers, settle) {
  const deadline = Number(headers['lambda-runtime-deadline-ms'])
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: json(headers, 'lambda-runtime-client-context'),
    identity: json(headers, 'lambda-runtime-cognito-identity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  }
  // These answer at once, whatever still waits in the event loop.
  const settleNow = (error, result) => {
    context.callbackWaitsForEmptyEventLoop = false
    settle(error, result)
  }
  context.done = settleNow
  context.succeed = (result) => settleNow(null, result)
  context.fail = (error) => settleNow(error === undefined || error === null ? 'handled' : error)
  return context
}

function json(headers, name) {
  if (!headers[name]) return undefined
  try {
    return JSON.parse(headers[name])
  } catch (error) {
    throw new RuntimeFailure('LambdaContextUnmarshalError', `${name} is no JSON: ${error.message}`)
  }
}

module.exports = { makeContext }
