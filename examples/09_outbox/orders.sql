CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, customer text NOT NULL, state text NOT NULL);

BEGIN;
INSERT INTO orders VALUES ('A-1', 'ada', 'placed');
INSERT INTO outbox (body, group_id) VALUES ('{"kind": "order.placed", "order": "A-1", "customer": "ada"}', 'ada');
COMMIT;

BEGIN;
INSERT INTO orders VALUES ('B-1', 'bob', 'placed');
INSERT INTO outbox (body, group_id) VALUES ('{"kind": "order.placed", "order": "B-1", "customer": "bob"}', 'bob');
COMMIT;

BEGIN;
INSERT INTO orders VALUES ('C-1', 'eve', 'placed');
INSERT INTO outbox (body, group_id) VALUES ('{"kind": "order.placed", "order": "C-1", "customer": "eve"}', 'eve');
ROLLBACK;

BEGIN;
UPDATE orders SET state = 'shipped' WHERE id = 'A-1';
INSERT INTO outbox (body, group_id) VALUES ('{"kind": "order.shipped", "order": "A-1", "customer": "ada"}', 'ada');
COMMIT;
