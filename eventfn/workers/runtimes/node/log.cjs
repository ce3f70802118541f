/**
 * console.* as Lambda writes it: text (time, request, level, message, between tabs) or JSON, one event a line.
 *
 * Line ends within an event become carriage returns; the platform turns them back.
 */
'use strict'

const { format } = require('node:util')
const { described, isError } = require('./errors.cjs')

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL']
const JSON_FORMAT = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON'
// In text format a level is written and filters nothing.
const LEAST = JSON_FORMAT ? Math.max(0, LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase())) : 0

let requestId // undefined during init, and written so
let tenantId

/** Lines from now on are of this request. */
function setRequest({ headers }) {
  requestId = headers['lambda-runtime-aws-request-id']
  tenantId = headers['lambda-runtime-aws-tenant-id']
}

function patchConsole() {
  const methods = { trace: 'TRACE', debug: 'DEBUG', info: 'INFO', log: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' }
  for (const [method, level] of Object.entries(methods)) {
    console[method] = LEVELS.indexOf(level) < LEAST ? () => {} : (...values) => write(level, values)
  }
}

function write(level, values) {
  const time = new Date().toISOString()
  const line = JSON_FORMAT ? asJson(time, level, values) : [time, String(requestId), level, format(...values)].join('\t')
  process.stdout.write(`${line.replace(/\r?\n/g, '\r')}\n`)
}

function asJson(time, level, values) {
  const record = { timestamp: time, level, requestId, ...(tenantId && { tenantId }) }
  if (values.length === 1) {
    try {
      return JSON.stringify({ ...record, message: values[0] }, (_, value) => (isError(value) ? asRecord(value) : value))
    } catch {
      return JSON.stringify({ ...record, message: format(values[0]) }) // it holds itself, or a BigInt
    }
  }
  const error = values.find(isError)
  return JSON.stringify({ ...record, message: format(...values), ...(error && asRecord(error)) })
}

function asRecord(error) {
  const { errorType, errorMessage, trace } = described(error)
  return { errorType, errorMessage, stackTrace: trace }
}

/** What a function failed with, as AWS titles it: "Invoke Error", "Uncaught Exception", "Unhandled Promise Rejection". */
function failure(title, error) {
  if (JSON_FORMAT) {
    write('ERROR', [isError(error) ? error : described(error)])
    return
  }
  // Its own properties (code, errno, reason) are what tells errors apart.
  let text
  try {
    text = JSON.stringify(error, (_, value) => (isError(value) ? withProperties(value) : value))
  } catch {
    text = undefined
  }
  write('ERROR', [`${title} \t${text === undefined || !isError(error) ? JSON.stringify(described(error)) : text}`])
}

function withProperties(error) {
  const { errorType, errorMessage, trace } = described(error)
  return { errorType, errorMessage, code: error.code, ...error, stack: trace }
}

module.exports = { failure, patchConsole, setRequest }
