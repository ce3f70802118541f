// The same as `resolver` in node-path.cjs for nodes before 22.15, where hooks are asynchronous and of another thread.
let parents = []

export function initialize(data) {
  parents = data
}

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context)
  } catch (missing) {
    if (missing.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|\w+:)/.test(specifier)) throw missing
    for (const parentURL of parents) {
      try {
        return await next(specifier, { ...context, parentURL })
      } catch (error) {
        if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error
      }
    }
    throw missing
  }
}
