-- +goose Up

-- Every entity table gets this one trigger, BEFORE INSERT OR UPDATE: created_at,
-- updated_at and version are the database's, whoever writes (ORM, raw SQL, psql);
-- what a writer puts into them is ignored.
-- clock_timestamp(), not now(): now() is the transaction's start, and a later
-- commit could then carry an earlier updated_at.
-- +goose StatementBegin
CREATE FUNCTION entity_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    IF TG_OP = 'INSERT' THEN
        NEW.created_at := NEW.updated_at;
        NEW.version := 1;
    ELSE
        NEW.created_at := OLD.created_at;
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
