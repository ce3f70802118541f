// GitHub's webhook: its signature is checked before anything is believed.
const { createHmac, timingSafeEqual } = require('node:crypto')

const expected = (body) => 'sha256=' + createHmac('sha256', process.env.SECRET).update(body).digest('hex')

exports.handler = async (event) => {
  const body = Buffer.from(event.body ?? '', event.isBase64Encoded ? 'base64' : 'utf8')
  const given = Buffer.from(event.headers['x-hub-signature-256'] ?? '')
  const right = Buffer.from(expected(body))
  if (given.length !== right.length || !timingSafeEqual(given, right)) return { statusCode: 401, body: 'wrong signature' }
  const { action, repository } = JSON.parse(body)
  console.log('%s: %s', event.headers['x-github-event'], action)
  return { statusCode: 202, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ repo: repository.full_name }) }
}
