/**
 * NODE_PATH for `import`, as Lambda's runtimes have it: by itself node looks there for `require` only, and an ES module
 * would not find the packages of a layer.
 */
'use strict'

const fs = require('node:fs')
const module_ = require('node:module')
const path = require('node:path')
const { pathToFileURL } = require('node:url')

function resolveThroughNodePath() {
  const parents = (process.env.NODE_PATH || '')
    .split(path.delimiter)
    .filter((folder) => path.basename(folder) === 'node_modules' && fs.existsSync(folder))
    .map((folder) => pathToFileURL(path.join(path.dirname(folder), 'importer.mjs')).href)
  if (parents.length === 0) return // the usual function: hooks would cost its start 30 ms on older nodes
  if (module_.registerHooks) module_.registerHooks({ resolve: resolver(parents) })
  // Older ones run hooks on a thread of their own, and node 16 has none.
  else if (module_.register) module_.register(pathToFileURL(path.join(__dirname, 'node-path-hooks.mjs')), { data: parents })
}

/** Where the importer's own node_modules have no such package, it is looked for as if each parent imported it. */
function resolver(parents) {
  return (specifier, context, next) => {
    try {
      return next(specifier, context)
    } catch (missing) {
      if (missing.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|\w+:)/.test(specifier)) throw missing
      for (const parentURL of parents) {
        try {
          return next(specifier, { ...context, parentURL })
        } catch (error) {
          if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
        }
      }
      throw missing
    }
  }
}

module.exports = { resolveThroughNodePath }
