/**
 * One invocation: the handler is called, and what comes of it first is the answer.
 *
 * That is a promise's end, a callback (once the event loop is empty, unless the handler waives that), or the event loop
 * becoming empty with neither, which answers null as Lambda does.
 */
'use strict'

const { makeContext } = require('./context.cjs')
const { RuntimeFailure } = require('./errors.cjs')
const log = require('./log.cjs')
const { ResponseStream, isStreaming } = require('./streaming.cjs')

class Invocation {
  constructor(api, { headers, body }) {
    this._api = api
    this._headers = headers
    this._body = body
    this._id = headers['lambda-runtime-aws-request-id']
    this._stream = null
  }

  /** Ends once the answer is taken. Rejects only if the Runtime API is gone. */
  async serve(handler) {
    const trace = this._headers['lambda-runtime-trace-id']
    if (trace) process.env._X_AMZN_TRACE_ID = trace
    else delete process.env._X_AMZN_TRACE_ID
    let answer
    try {
      if (isStreaming(handler)) return await this._streamed(handler)
      answer = asJson(await this._called(handler))
    } catch (error) {
      log.failure('Invoke Error', error)
      return this.fail(error)
    }
    await this._api.respond(this._id, answer)
  }

  async fail(error) {
    if (this._stream !== null && this._stream.begun) await this._stream.fail(error)
    else await this._api.fail(this._id, error)
  }

  _called(handler) {
    return new Promise((resolve, reject) => {
      const settled = (error, result) => {
        process.removeListener('beforeExit', onEmpty)
        // What the handler wrote in this turn of the loop, to its log or a socket, goes first.
        setImmediate(() => (error === null || error === undefined ? resolve(result) : reject(error)))
      }
      let onEmpty = () => settled(null, null)
      const settle = (error, result) => {
        if (context.callbackWaitsForEmptyEventLoop) {
          process.removeListener('beforeExit', onEmpty)
          onEmpty = () => settled(error, result)
          process.once('beforeExit', onEmpty)
        } else {
          settled(error, result)
        }
      }
      const context = makeContext(this._headers, settle)
      process.once('beforeExit', onEmpty)
      try {
        const returned = handler(JSON.parse(this._body), context, settle)
        if (isPromise(returned)) returned.then(context.succeed, context.fail)
      } catch (error) {
        context.fail(error)
      }
    })
  }

  async _streamed(handler) {
    this._stream = new ResponseStream(this._api, this._id)
    const stillOpen = new Promise((_, reject) => {
      this._onEmpty = () => reject(new Error('Response stream is not finished.'))
    })
    process.once('beforeExit', this._onEmpty)
    try {
      const context = makeContext(this._headers, () => {})
      const returned = handler(JSON.parse(this._body), this._stream, context)
      if (!isPromise(returned)) throw new RuntimeFailure('MalformedStreamingHandler', 'Streaming does not support non-async handlers.')
      // Its stream may break before the handler notices.
      const [result] = await Promise.race([Promise.all([returned, this._stream.taken]), stillOpen])
      if (result !== undefined) console.warn('Streaming handlers ignore return values.')
    } finally {
      process.removeListener('beforeExit', this._onEmpty)
    }
  }
}

function isPromise(value) {
  return value !== null && typeof value === 'object' && typeof value.then === 'function'
}

function asJson(value) {
  try {
    const text = JSON.stringify(value)
    return text === undefined ? 'null' : text // undefined, a function, a symbol
  } catch {
    throw new RuntimeFailure('JSONStringifyError', 'Unable to stringify response body')
  }
}

module.exports = { Invocation }
