// An Express application behind an HTTP API.
const express = require('express')
const serverless = require('serverless-http')

const app = express()
app.use(express.json())
app.get('/items/:id', (request, response) => response.json({ id: request.params.id, query: request.query }))
app.post('/items', (request, response) => response.status(201).set('Location', '/items/7').json(request.body))
app.use((error, request, response, next) => response.status(400).json({ error: error.type }))

exports.handler = serverless(app)
