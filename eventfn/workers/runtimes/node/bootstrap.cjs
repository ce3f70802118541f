/**
 * The Node.js runtime: what an environment starts for `runtime = "nodejs22.x"`, on the machine's node (16 or newer).
 *
 * It knows the Runtime API (AWS_LAMBDA_RUNTIME_API), _HANDLER, LAMBDA_TASK_ROOT and the log format, and nothing of
 * eventfn. Here stands the life of the process; each other file has one subject. All are CommonJS, which starts some
 * milliseconds faster than an ES module; the function's own may be either.
 */
'use strict'

const { Invocation } = require('./invocation.cjs')
const { RuntimeApi } = require('./runtime-api.cjs')
const { UnhandledPromiseRejection } = require('./errors.cjs')
const log = require('./log.cjs')
const { loadHandler } = require('./loading.cjs')
const streaming = require('./streaming.cjs')

// As AWS's own runtime ends, which is what "exit status N" in the log tells an operator apart.
const UNHANDLED_REJECTION = 128
const UNCAUGHT_EXCEPTION = 129

const api = new RuntimeApi(process.env.AWS_LAMBDA_RUNTIME_API)
let starting = true
let invocation = null // the one that is being answered

/** Whoever waits is told, then the process ends: its state is unknown. */
async function fail(title, error, status) {
  log.failure(title, error)
  try {
    if (invocation !== null) await invocation.fail(error)
    else if (starting) await api.failInit(error)
  } finally {
    process.exit(status)
  }
}

async function main() {
  log.patchConsole()
  streaming.defineGlobal()
  process.on('uncaughtException', (error) => fail('Uncaught Exception', error, UNCAUGHT_EXCEPTION))
  process.on('unhandledRejection', (reason) =>
    fail('Unhandled Promise Rejection', new UnhandledPromiseRejection(reason), UNHANDLED_REJECTION))

  let handler
  try {
    handler = await loadHandler(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER)
  } catch (error) {
    return fail('Uncaught Exception', error, UNCAUGHT_EXCEPTION)
  }
  starting = false
  for (;;) {
    const request = await api.next()
    log.setRequest(request)
    invocation = new Invocation(api, request)
    await invocation.serve(handler)
    invocation = null
  }
}

main().catch((error) => {
  process.stderr.write(`The Runtime API cannot be reached: ${error.message}\n`)
  process.exit(1)
})
