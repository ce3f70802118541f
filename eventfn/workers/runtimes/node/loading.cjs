/**
 * From a handler string to a function: `dir/file.export[.nested]`.
 *
 * CommonJS is required, an ES module (.mjs, or .js below a package.json of type "module") is imported, so that it may
 * await at its top level.
 */
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { createRequire } = require('node:module')
const { RuntimeFailure, UserCodeSyntaxError } = require('./errors.cjs')
const { pathToFileURL } = require('node:url')
const { resolveThroughNodePath } = require('./node-path.cjs')

const EXTENSIONS = ['', '.js', '.mjs', '.cjs'] // in the order in which they are tried
// What `require` says of an ES module: of any before node 22, later only of one that awaits at its top level.
const IS_A_MODULE = new Set(['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE'])

/** Throws what the file itself throws, or one of the errors of Runtime.*. */
async function loadHandler(root, text) {
  const { folder, file, name } = parsed(text)
  let exported
  try {
    exported = await load(path.resolve(root, folder), file, root)
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserCodeSyntaxError(error)
    if (error && error.code === 'MODULE_NOT_FOUND') throw new RuntimeFailure('ImportModuleError', String(error))
    throw error
  }
  let handler = member(exported, name)
  if (handler === undefined && exported != null) handler = member(exported.default, name)
  if (!handler) throw new RuntimeFailure('HandlerNotFound', `${text} is undefined or not exported`)
  if (typeof handler !== 'function') throw new RuntimeFailure('HandlerNotFound', `${text} is not a function`)
  return handler
}

function parsed(text) {
  if (text.includes('..')) {
    const why = `'${text}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`
    throw new RuntimeFailure('MalformedHandlerName', why)
  }
  const base = path.basename(text)
  const dot = base.indexOf('.')
  if (dot < 0) throw new RuntimeFailure('MalformedHandlerName', 'Bad handler')
  return { folder: text.slice(0, text.length - base.length), file: base.slice(0, dot), name: base.slice(dot + 1) }
}

async function load(folder, file, root) {
  for (const extension of EXTENSIONS) {
    const candidate = path.join(folder, file + extension)
    if (fs.existsSync(candidate) && fs.statSync(candidate).isFile()) return loadFile(candidate)
  }
  // A package of the function's node_modules or of a layer's may hold the handler; else this says what is missing.
  const require = createRequire(path.join(folder, 'handler.cjs'))
  return require(require.resolve(file, { paths: [folder, root] }))
}

async function loadFile(file) {
  if (!file.endsWith('.mjs')) {
    try {
      return require(file)
    } catch (error) {
      if (!IS_A_MODULE.has(error?.code)) throw error
    }
  }
  resolveThroughNodePath()
  return import(pathToFileURL(file).href)
}

function member(exported, name) {
  let found = exported
  for (const key of name.split('.')) {
    if (found === null || (typeof found !== 'object' && typeof found !== 'function')) return undefined
    found = found[key]
  }
  return found
}

module.exports = { loadHandler }
