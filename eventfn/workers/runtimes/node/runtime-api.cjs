/** A client of Lambda's Runtime API, version 2018-06-01. */
'use strict'

const http = require('node:http')
const { described } = require('./errors.cjs')

const ERROR_TYPE = 'Lambda-Runtime-Function-Error-Type'
const MODE = 'Lambda-Runtime-Function-Response-Mode'
const ERROR_BODY = 'Lambda-Runtime-Function-Error-Body'
const KNOWN_ERROR_TYPE = /^(Runtime|Function)\.[A-Z][a-zA-Z]+$/

class RuntimeApi {
  /** @param {string} address host:port */
  constructor(address) {
    const at = address.lastIndexOf(':')
    // An idle connection does not keep the event loop alive, so a callback's loop can become empty.
    const agent = new http.Agent({ keepAlive: true })
    this._options = { host: address.slice(0, at), port: Number(address.slice(at + 1)), agent }
  }

  /** Waits for as long as it takes. @returns {Promise<{headers: object, body: string}>} */
  async next() {
    const answer = await this._send('GET', '/invocation/next')
    if (answer.status !== 200) throw new Error(`the Runtime API answers ${answer.status}: ${answer.body}`)
    return answer
  }

  async respond(id, body) {
    await this._send('POST', `/invocation/${encodeURIComponent(id)}/response`, body)
  }

  async fail(id, error) {
    await this._sendError(`/invocation/${encodeURIComponent(id)}/error`, error)
  }

  async failInit(error) {
    await this._sendError('/init/error', error)
  }

  /** A request whose body is written piece by piece. Its error goes into trailers, see `trailers`. */
  stream(id, contentType) {
    const request = this._request('POST', `/invocation/${encodeURIComponent(id)}/response`, {
      'Content-Type': contentType,
      'Transfer-Encoding': 'chunked',
      Trailer: `${ERROR_TYPE}, ${ERROR_BODY}`,
      [MODE]: 'streaming',
    })
    request.setNoDelay(true)
    return request
  }

  static trailers(error) {
    const told = described(error)
    return {
      [ERROR_TYPE]: typeOf(told),
      [ERROR_BODY]: Buffer.from(JSON.stringify(told)).toString('base64'),
    }
  }

  async _sendError(path, error) {
    const told = described(error)
    await this._send('POST', path, JSON.stringify(told), { [ERROR_TYPE]: typeOf(told) })
  }

  /**
   * A refusal is no failure of ours: what is too large (413) or too late the platform knows better than the function,
   * and has told its caller.
   */
  _send(method, path, body, headers) {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }
      const request = this._request(method, path, { ...length, ...headers })
      request.on('error', reject)
      request.on('response', (response) => {
        const parts = []
        response.on('data', (part) => parts.push(part))
        response.on('error', reject)
        response.on('end', () => {
          resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() })
        })
      })
      request.end(body)
    })
  }

  _request(method, path, headers) {
    return http.request({ ...this._options, method, path: `/2018-06-01/runtime${path}`, headers })
  }
}

/** A class's own name may be anything, a header may not. */
function typeOf(told) {
  return KNOWN_ERROR_TYPE.test(told.errorType) ? told.errorType : 'Function.Unknown'
}

module.exports = { RuntimeApi }
