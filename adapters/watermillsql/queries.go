package watermillsql

// All SQL of this package. Texts with %s are filled with table names that
// watermill-sql's adapters made or that were quoted.

const insertSQL = `
INSERT INTO outbox (event_id, topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
SELECT e, t, k, at, ai, nullif(av, 0), et, h, p
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::bytea[])
       WITH ORDINALITY AS m(e, t, k, at, ai, av, et, h, p, n)
 ORDER BY n`

// Inserts into either the stock table or the outbox, decided by a snapshot that is
// newer than the lock on the stock table. The first %s is the stock table, the second
// how a payload is cast. $10 the stock table's name, $11 to $13 the stock rows.
const insertMovingSQL = `
WITH moved AS MATERIALIZED (
 SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $10::text::regclass AND tgname = 'outbox_watermill_moved') AS yes),
ours AS (
 INSERT INTO outbox (event_id, topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
 SELECT e, t, k, at, ai, nullif(av, 0), et, h, p
   FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::bytea[])
        WITH ORDINALITY AS m(e, t, k, at, ai, av, et, h, p, n)
  WHERE (SELECT yes FROM moved) ORDER BY n)
INSERT INTO %s (uuid, payload, metadata, transaction_id)
SELECT u, %s, convert_from(md, 'UTF8')::json, pg_current_xact_id()
  FROM unnest($11::text[], $12::bytea[], $13::bytea[]) WITH ORDINALITY AS m(u, p, md, n)
 WHERE NOT (SELECT yes FROM moved) ORDER BY n`

// What InitializeSchema of a publisher runs: the tables come from the migrations.
const requireOutboxSQL = `
DO $check$ BEGIN
 IF to_regclass('outbox') IS NULL OR to_regclass('outbox_cursor') IS NULL THEN
  RAISE EXCEPTION 'the outbox tables are missing in the search_path: run "millrace migrate up"';
 END IF;
END $check$`

// The reader's state beside its row in outbox_cursor, and the read itself. Every
// position up to safe is decided: it is filled and visible, or never will be. pending
// becomes safe when none of the suspects runs any more. The suspects are the holders
// of the sequence's lock that were seen after pending had been issued.
const createReaderSQL = `
DO $create$ BEGIN
 PERFORM pg_advisory_xact_lock(hashtextextended('outbox_watermill_read', 0));
 IF to_regprocedure('outbox_watermill_read(text, text, integer)') IS NOT NULL THEN
  RETURN;
 END IF;
 CREATE TABLE outbox_watermill_gate (
  relay    text   PRIMARY KEY,
  safe     bigint NOT NULL DEFAULT 0,
  pending  bigint NOT NULL DEFAULT 0,
  suspects text[] NOT NULL DEFAULT '{}'
 ) WITH (fillfactor = 10);
 CREATE FUNCTION outbox_watermill_read(reader text, wanted text, max_rows integer)
 RETURNS TABLE (f_position bigint, f_event_id uuid, f_topic text, f_key text, f_aggregate_type text, f_aggregate_id text,
                f_aggregate_version bigint, f_event_type text, f_headers jsonb, f_payload bytea, f_created_us bigint)
 LANGUAGE plpgsql VOLATILE
 SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan
 AS $body$
 DECLARE
  cursor_row outbox_cursor; gate outbox_watermill_gate; before outbox_watermill_gate;
  seq oid; db oid; cached bigint; issued bigint; holders text[]; start bigint;
 BEGIN
  -- Each statement below must have a snapshot of its own.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
   RAISE EXCEPTION 'outbox_watermill_read: the transaction must be READ COMMITTED, it is %', current_setting('transaction_isolation');
  END IF;
  SELECT * INTO cursor_row FROM outbox_cursor WHERE relay = reader FOR UPDATE;
  IF NOT FOUND THEN
   RAISE EXCEPTION 'outbox_watermill_read: no cursor %: subscribe with watermillsql.NewOffsets', reader;
  END IF;
  IF cursor_row.owner <> '' AND cursor_row.lease_until > clock_timestamp() THEN
   RETURN; -- an outbox.Subscriber or relay leads with this cursor
  END IF;
  IF cursor_row.gaps <> '' THEN
   RAISE EXCEPTION 'outbox_watermill_read: cursor % has gaps that only outbox.NewSubscriber can read: let it run until they are closed', reader;
  END IF;
  SELECT s.seqrelid, s.seqcache * s.seqincrement, d.oid INTO seq, cached, db FROM pg_sequence s, pg_database d
   WHERE s.seqrelid = pg_get_serial_sequence('outbox', 'position')::regclass AND d.datname = current_database();
  IF cached <> 1 OR row_security_active('outbox') THEN
   RAISE EXCEPTION 'outbox_watermill_read: the outbox is not safe to read: run "millrace doctor"';
  END IF;
  SELECT * INTO gate FROM outbox_watermill_gate WHERE relay = reader;
  before := gate;
  start := cursor_row.position;
  FOR round IN 1..10 LOOP
   SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END INTO issued FROM outbox_position_seq;
   IF issued < cursor_row.position THEN
    RAISE EXCEPTION 'outbox_watermill_read: the sequence stands at %, behind the cursor at %: run "millrace doctor"', issued, cursor_row.position;
   END IF;
   -- Only after the sequence was read: a transaction that was given a position
   -- up to issued and is not among the holders has ended.
   holders := ARRAY(SELECT DISTINCT virtualtransaction FROM pg_locks
     WHERE locktype = 'relation' AND database = db AND relation = seq AND mode = 'RowExclusiveLock' AND granted);
   IF cardinality(holders) = 0 THEN
    gate.safe := issued; gate.pending := issued; gate.suspects := '{}';
   ELSIF NOT gate.suspects && holders AND NOT EXISTS (SELECT FROM unnest(holders) AS h WHERE h LIKE '-1/%') THEN
    gate.safe := gate.pending; gate.pending := issued; gate.suspects := holders;
   END IF;
   -- Only after the holders were read: this statement's snapshot shows what they left.
   RETURN QUERY
    SELECT o.position, o.event_id, o.topic, o.key, o.aggregate_type, o.aggregate_id, coalesce(o.aggregate_version, 0),
           o.event_type, o.headers, o.payload, round(date_part('epoch', o.created_at) * 1e6)::bigint
      FROM outbox o WHERE o.position > cursor_row.position AND o.position <= gate.safe AND o.topic = wanted
     ORDER BY o.position LIMIT max_rows;
   EXIT WHEN FOUND;
   cursor_row.position := greatest(cursor_row.position, gate.safe); -- nothing of this topic up to there
   EXIT WHEN gate.pending <= cursor_row.position;
   PERFORM pg_sleep(0.005);
  END LOOP;
  IF gate IS DISTINCT FROM before THEN
   UPDATE outbox_watermill_gate g SET safe = gate.safe, pending = gate.pending, suspects = gate.suspects WHERE g.relay = reader;
  END IF;
  IF cursor_row.position > start THEN
   UPDATE outbox_cursor c SET position = cursor_row.position, updated_at = clock_timestamp() WHERE c.relay = reader;
  END IF;
 END $body$;
END $create$`

// ON CONFLICT alone would wait for a subscriber that is at work, which has updated
// the rows.
const (
	addCursorSQL = `
INSERT INTO outbox_cursor (relay) SELECT $1::text WHERE NOT EXISTS (SELECT FROM outbox_cursor WHERE relay = $1::text) ON CONFLICT DO NOTHING`
	addGateSQL = `
INSERT INTO outbox_watermill_gate (relay) SELECT $1::text WHERE NOT EXISTS (SELECT FROM outbox_watermill_gate WHERE relay = $1::text) ON CONFLICT DO NOTHING`
	nextOffsetSQL = `SELECT position FROM outbox_cursor WHERE relay = $1 FOR UPDATE`
	readSQL       = `SELECT * FROM outbox_watermill_read($1, $2, $3) ORDER BY 1`
	ackSQL        = `UPDATE outbox_cursor SET position = $2, updated_at = clock_timestamp() WHERE relay = $1 AND position < $2`
	misuseSQL     = `DO $$ BEGIN RAISE EXCEPTION 'watermillsql.NewSchema reads only with watermillsql.NewOffsets as OffsetsAdapter'; END $$`
)

// The stock tables. %[1]s messages, %[2]s offsets. Where a transaction id is
// returned as text, the ORDER BY names the table: else it would order the text.
const (
	stockTablesSQL = `SELECT to_regclass($1) IS NOT NULL, to_regclass($2) IS NOT NULL`
	groupsSQL      = `SELECT consumer_group FROM %[2]s ORDER BY 1`
	addGroupSQL    = `INSERT INTO %[2]s (consumer_group, offset_acked, last_processed_transaction_id) VALUES ($1, 0, '0') ON CONFLICT DO NOTHING`
	markSQL        = `SELECT offset_acked, last_processed_transaction_id::text FROM %[2]s WHERE consumer_group = $1`
	markLockedSQL  = markSQL + ` FOR UPDATE`
	setMarkSQL     = `UPDATE %[2]s SET offset_acked = $2, last_processed_transaction_id = $3::text::xid8 WHERE consumer_group = $1`

	// Not acknowledged: $1 offset, $2 transaction of the last acknowledged row.
	unackedSQL = `(transaction_id = $2::text::xid8 AND "offset" > $1 OR transaction_id > $2::text::xid8)`
	// Decided: every transaction up to it has ended, as far as it could write to
	// this database. Of those running in the snapshot (xip) only the ones are left
	// out that hold a lock on a relation of another database; which database a
	// transaction is of never changes, so it does not matter that the locks are
	// seen after the snapshot.
	decidedSQL = `transaction_id < (
 WITH l AS MATERIALIZED (SELECT virtualtransaction, locktype, database, transactionid, mode FROM pg_locks WHERE granted),
 elsewhere AS (
  SELECT t.transactionid FROM l t JOIN l r USING (virtualtransaction)
   WHERE t.locktype = 'transactionid' AND t.mode = 'ExclusiveLock' AND r.locktype = 'relation'
     AND r.database NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
 SELECT coalesce((SELECT x FROM pg_snapshot_xip(pg_current_snapshot()) AS x
                   WHERE x::xid NOT IN (SELECT transactionid FROM elsewhere) ORDER BY x LIMIT 1),
                 pg_snapshot_xmax(pg_current_snapshot())))`

	pendingSQL = `SELECT count(*) FILTER (WHERE ` + decidedSQL + `), count(*) FILTER (WHERE NOT ` + decidedSQL + `) FROM %[1]s WHERE ` + unackedSQL

	// Decided transactions after which no row that can be seen has a smaller
	// "offset", with the number of rows up to each.
	cutsSQL = `
SELECT transaction_id::text AS xid, rows FROM (
 SELECT transaction_id, sum(count(*)) OVER older AS rows, max(max("offset")) OVER older AS highest,
        min(min("offset")) OVER (ORDER BY transaction_id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS lowest
   FROM %[1]s WHERE ` + unackedSQL + `
  GROUP BY transaction_id WINDOW older AS (ORDER BY transaction_id)) t
 WHERE (lowest IS NULL OR highest < lowest) AND ` + decidedSQL + ` ORDER BY transaction_id`

	// What may stand in the way of a cut among the decided rows, by "offset".
	openTailSQL = `DECLARE millrace_rows NO SCROLL CURSOR FOR SELECT ` + rowColumns + `, ` + decidedSQL + ` FROM %[1]s
 WHERE ` + unackedSQL + ` AND "offset" <= (SELECT max("offset") FROM %[1]s WHERE ` + unackedSQL + ` AND ` + decidedSQL + `) ORDER BY "offset"`
	newestDecidedSQL = `SELECT transaction_id::text FROM %[1]s m WHERE ` + decidedSQL + ` ORDER BY m.transaction_id DESC LIMIT 1`

	rowColumns = `"offset", transaction_id::text, uuid, payload, metadata, created_at AT TIME ZONE current_setting('TimeZone')`
	// $3 the last transaction to take.
	openRowsSQL  = `DECLARE millrace_rows NO SCROLL CURSOR FOR SELECT ` + rowColumns + ` FROM %[1]s WHERE ` + unackedSQL + ` AND transaction_id <= $3::text::xid8 ORDER BY "offset"`
	fetchRowsSQL = `FETCH FORWARD %d FROM millrace_rows`
	closeRowsSQL = `CLOSE millrace_rows`
	lastRowSQL   = `SELECT "offset", transaction_id::text FROM %[1]s m WHERE ` + unackedSQL + ` AND transaction_id <= $3::text::xid8 ORDER BY m.transaction_id DESC, "offset" DESC LIMIT 1`

	lockTimeoutSQL = `SELECT set_config('lock_timeout', $1, true)`
	lockStockSQL   = `LOCK TABLE %[1]s IN EXCLUSIVE MODE`
	newestSQL      = `SELECT transaction_id::text FROM %[1]s m ORDER BY m.transaction_id DESC LIMIT 1`
	movedSQL       = `SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname = 'outbox_watermill_moved')`
)

// A stock writer that comes after the switch is refused. A writer with
// NewSwitchSchema whose snapshot is older than the switch only has to try again.
const refuseStockSQL = `
CREATE OR REPLACE FUNCTION outbox_watermill_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
 RAISE EXCEPTION 'messages of % go to the outbox now', TG_TABLE_NAME
  USING ERRCODE = 'serialization_failure', HINT = 'Try again, with a publisher of Millrace: this table has been moved over.';
END $$`

const sealStockSQL = `
CREATE TRIGGER outbox_watermill_moved BEFORE INSERT ON %[1]s FOR EACH ROW EXECUTE FUNCTION outbox_watermill_moved()`
