// Package orm holds the repositories of the reference service once more, on the
// ORM bun. They work on the transaction of a unit of work, beside repositories
// written in SQL and beside the outbox: one *sql.Tx is under all of them. What
// the database sets (version, created_at, updated_at) is only read here.
//
// Reference code: no compatibility promise.
package orm

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
)

// ErrNotTheTrigger means that the row has another version than the aggregate:
// the table's trigger entity_touch is missing or not the one of the migrations.
var ErrNotTheTrigger = errors.New("version of the row is not that of the aggregate: is the trigger entity_touch in place?")

// ORM makes the repositories of transactions. It is safe for concurrent use.
type ORM struct{ db *bun.DB }

// New returns repositories for the transactions of db. It asks db nothing.
func New(db *sql.DB) *ORM { return &ORM{bun.NewDB(db, pgdialect.New())} }

// Notifications returns the repository of tx.
func (o *ORM) Notifications(tx *sql.Tx) app.Notifications { return &Notifications{o.session(tx)} }

// Accounts returns the repository of tx.
func (o *ORM) Accounts(tx *sql.Tx) app.Accounts { return &Accounts{o.session(tx)} }

// Sessions returns the repository of tx.
func (o *ORM) Sessions(tx *sql.Tx) app.Sessions { return &Sessions{o.session(tx)} }

func (o *ORM) session(tx *sql.Tx) session { return session{o.db, tx} }

// session runs queries in one transaction.
type session struct {
	db *bun.DB
	tx *sql.Tx
}

// entity is what every row has and the database alone writes.
type entity struct {
	Version   int64     `bun:"version,scanonly"`
	CreatedAt time.Time `bun:"created_at,scanonly"`
	UpdatedAt time.Time `bun:"updated_at,scanonly"`
}

const entityColumns = "version, created_at, updated_at"

func (e *entity) written() *entity { return e }

// row is a model with an entity in it.
type row interface{ written() *entity }

// aggregate is what there is to know of an aggregate to count its versions.
type aggregate interface {
	Stored() int64
	Version() int64
	Settle(createdAt, updatedAt time.Time)
}

func domainEntity[ID comparable](id ID, e entity) domain.Entity[ID] {
	return domain.Entity[ID]{ID: id, CreatedAt: domain.Time(e.CreatedAt), UpdatedAt: domain.Time(e.UpdatedAt), Version: e.Version}
}

// insert adds the row of a new aggregate; columns are those that acts change.
func (s session) insert(ctx context.Context, r row, id any, a aggregate, columns ...string) error {
	if _, err := s.db.NewInsert().Model(r).Conn(s.tx).Returning(entityColumns).Exec(ctx); err != nil {
		return dberror.Map(err)
	}
	return s.finish(ctx, r, id, a, columns)
}

// update writes the given columns if the row still has the version that a was
// read at.
func (s session) update(ctx context.Context, r row, id any, a aggregate, columns ...string) error {
	err := s.write(ctx, r, id, a.Stored(), columns)
	if errors.Is(err, domain.ErrNotFound) {
		there, probe := s.db.NewSelect().Model(r).Conn(s.tx).Where("id = ?", id).Exists(ctx)
		switch {
		case probe != nil:
			err = dberror.Map(probe)
		case there:
			err = domain.ErrVersionConflict
		}
	}
	if err != nil {
		return err
	}
	return s.finish(ctx, r, id, a, columns)
}

// finish writes the row until it has counted every pending event, since the
// database adds one version for each write and each event has its own.
func (s session) finish(ctx context.Context, r row, id any, a aggregate, columns []string) error {
	for expected := a.Stored() + 1; ; expected++ {
		if r.written().Version != expected {
			return ErrNotTheTrigger
		}
		if expected == a.Version() {
			break
		}
		if err := s.write(ctx, r, id, expected, columns); err != nil {
			return err
		}
	}
	a.Settle(domain.Time(r.written().CreatedAt), domain.Time(r.written().UpdatedAt))
	return nil
}

// write is domain.ErrNotFound if there is no row of the version.
func (s session) write(ctx context.Context, r row, id any, version int64, columns []string) error {
	q := s.db.NewUpdate().Model(r).Conn(s.tx).Column(columns...).Where("id = ?", id).Where("version = ?", version)
	result, err := q.Returning(entityColumns).Exec(ctx)
	if err != nil {
		return dberror.Map(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(domain.ErrNotFound, err)
	}
	return nil
}

// get reads the row of an id into r, with a lock if one is named.
func (s session) get(ctx context.Context, r row, id any, lock string) error {
	q := s.db.NewSelect().Model(r).Conn(s.tx).ColumnExpr("?TableColumns, "+entityColumns).Where("id = ?", id)
	if lock != "" {
		q = q.For(lock)
	}
	return dberror.Map(q.Scan(ctx))
}
