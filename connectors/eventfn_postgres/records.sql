-- What "postgres:NAME" as a destination writes to: each record once, by its id, in the order in which they came.
CREATE TABLE {table} (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text NOT NULL UNIQUE,
    payload     json NOT NULL,                               -- as eventfn has written it; cast to jsonb to search in it
    attributes  jsonb NOT NULL,
    written_at  timestamptz NOT NULL DEFAULT now()
);
