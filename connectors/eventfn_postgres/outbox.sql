-- One row is one message. A writer inserts `body`, in the transaction of what the message is about; the rest has
-- defaults. `python -m eventfn_postgres NAME` prints this for a table of that name.
CREATE TABLE {table} (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- the order inside a group
    body        text NOT NULL,                               -- mostly JSON; any text
    attributes  jsonb NOT NULL DEFAULT jsonb_build_object()  -- a flat object; messageAttributes in the event
                CHECK (jsonb_typeof(attributes) = 'object'),
    group_id    text,                                        -- rows of one group are handled in order
    visible_at  timestamptz NOT NULL DEFAULT now(),          -- later: delayed, or leased to a node until then
    attempts    integer NOT NULL DEFAULT 0,                  -- how often it was handed out
    created_at  timestamptz NOT NULL DEFAULT now(),
    dead_reason text                                         -- why it is handed out no more; NULL: it is
);

CREATE INDEX ON {table} (visible_at) WHERE dead_reason IS NULL;

-- A hint and no more: it wakes the nodes, which then look into the table.
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('eventfn_' || TG_RELID, '');
    RETURN NULL;
END
$$;

CREATE TRIGGER eventfn_notify AFTER INSERT ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
