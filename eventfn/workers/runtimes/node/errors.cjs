/** The errors that are the runtime's own, and how any error is told to whoever called. */
'use strict'

class RuntimeFailure extends Error {
  constructor(name, message) {
    super(message)
    this.name = `Runtime.${name}`
  }
}

class UserCodeSyntaxError extends RuntimeFailure {
  constructor(original) {
    super('UserCodeSyntaxError', String(original))
    this.stack = original.stack // it has the file, the line and the code
  }
}

class UnhandledPromiseRejection extends RuntimeFailure {
  constructor(reason) {
    super('UnhandledPromiseRejection', String(reason))
    this.reason = reason
  }
}

/** @returns {{errorType: string, errorMessage: string, trace: string[]}} also for what is thrown and is no Error. */
function described(error) {
  try {
    if (isError(error)) {
      return {
        errorType: String(error.name),
        errorMessage: String(error.message),
        trace: typeof error.stack === 'string' ? error.stack.split('\n') : [],
      }
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] }
  } catch {
    // A getter or toString of the function's own threw.
    const message = 'The function failed with a value whose name, message and stack cannot be read.'
    return { errorType: 'handled', errorMessage: message, trace: [] }
  }
}

/** Also one of another realm (vm), which `instanceof` does not know. */
function isError(value) {
  return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]'
}

module.exports = { RuntimeFailure, UserCodeSyntaxError, UnhandledPromiseRejection, described, isError }
