/** Responses that are sent while they are made: the global `awslambda`, and the stream that such a handler gets. */
'use strict'

const { Writable } = require('node:stream')
const { RuntimeApi } = require('./runtime-api.cjs')
const { RuntimeFailure } = require('./errors.cjs')

// The names that AWS's runtimes use, so a handler marked by another copy of the function is known too.
const MARK = Symbol.for('aws.lambda.runtime.handler.streaming')
const HTTP = 'application/vnd.awslambda.http-integration-response'
const AFTER_PRELUDE = Buffer.alloc(8)

function isStreaming(handler) {
  if (!handler[MARK]) return false
  if (handler[MARK] === 'response') return true
  throw new RuntimeFailure('MalformedStreamingHandler', 'Only response streaming is supported.')
}

/** The request to the Runtime API begins with the first write, so what fails before is an error like any other. */
class ResponseStream extends Writable {
  constructor(api, id) {
    super({ decodeStrings: false })
    this._api = api
    this._id = id
    this._contentType = 'application/octet-stream'
    this._prelude = null
    this._request = null
    /** Resolves once the platform has all of it. */
    this.taken = new Promise((resolve, reject) => {
      this._resolve = resolve
      this._reject = reject
    })
    this.taken.catch(() => {}) // whoever waits learns it; nobody may
    this.on('error', this._reject)
  }

  get begun() {
    return this._request !== null
  }

  setContentType(contentType) {
    if (this.begun) throw new RuntimeFailure('InvalidStreamingOperation', 'Cannot set content-type, too late.')
    this._contentType = contentType
  }

  /** Anything that is neither text nor bytes is sent as JSON. */
  write(chunk, ...more) {
    return super.write(written(chunk), ...more)
  }

  end(chunk, ...more) {
    return super.end(typeof chunk === 'function' ? chunk : written(chunk), ...more)
  }

  _write(chunk, encoding, done) {
    this._begin().write(chunk, encoding === 'buffer' ? undefined : encoding, done)
  }

  _final(done) {
    this._begin().end(done)
  }

  _begin() {
    if (this.begun) return this._request
    this._request = this._api.stream(this._id, this._contentType)
    this._request.on('error', (error) => this.destroy(error))
    this._request.on('response', (response) => {
      response.resume()
      response.on('end', this._resolve)
      response.on('error', (error) => this.destroy(error))
    })
    if (this._prelude !== null) this._request.write(Buffer.concat([Buffer.from(this._prelude), AFTER_PRELUDE]))
    return this._request
  }

  /** What was sent stays; the error follows it. */
  async fail(error) {
    if (!this._request.writableEnded && !this._request.destroyed) {
      this._request.addTrailers(RuntimeApi.trailers(error))
      this._request.end()
      await this.taken.catch(() => {})
    }
  }
}

function written(chunk) {
  const asIs = chunk === null || chunk === undefined || typeof chunk === 'string' || chunk instanceof Uint8Array
  return asIs ? chunk : JSON.stringify(chunk)
}

const HttpResponseStream = {
  /** @param prelude {statusCode, headers, cookies}; sent before the first byte of the body. */
  from(stream, prelude) {
    stream.setContentType(HTTP)
    stream._prelude = JSON.stringify(prelude)
    return stream
  },
}

function defineGlobal() {
  globalThis.awslambda = {
    streamifyResponse: (handler) => Object.assign(handler, { [MARK]: 'response' }),
    HttpResponseStream,
  }
}

module.exports = { ResponseStream, defineGlobal, isStreaming }
