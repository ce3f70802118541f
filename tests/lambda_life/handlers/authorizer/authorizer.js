// An authorizer of an HTTP API, in callback style.
const jwt = require('jsonwebtoken')

exports.handler = (event, context, callback) => {
  const token = (event.headers.authorization || '').replace(/^Bearer /, '')
  jwt.verify(token, process.env.KEY, { algorithms: ['HS256'] }, (error, claims) => {
    callback(null, error ? { isAuthorized: false } : { isAuthorized: true, context: { user: claims.sub } })
  })
}
