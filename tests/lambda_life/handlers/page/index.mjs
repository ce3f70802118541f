// A page whose head is on its way before its rows are known.
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'

async function* rows(count) {
  yield '<ul>'
  for (let row = 0; row < count; row++) yield `<li>${row}</li>`
  yield '</ul>'
}

export const handler = awslambda.streamifyResponse(async (event, stream) => {
  const head = { statusCode: 200, headers: { 'content-type': 'text/html' }, cookies: ['seen=1'] }
  await pipeline(Readable.from(rows(event.rows ?? 3)), awslambda.HttpResponseStream.from(stream, head))
})
