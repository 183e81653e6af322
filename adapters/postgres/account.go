package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

const (
	insertAccount = `
INSERT INTO account (id, email, password, generation, registered_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING version, created_at, updated_at`

	updateAccount = `
UPDATE account SET email = $3, password = $4, generation = $5, changed_at = $6
WHERE id = $1 AND version = $2
RETURNING version, created_at, updated_at`

	selectAccount = `
SELECT id, email, password, generation, registered_at, changed_at, version, created_at, updated_at
FROM account WHERE id = $1`

	// FOR SHARE lets logins of one account run side by side, and makes whoever
	// would change the account wait for them.
	holdAccount = selectAccount + ` FOR SHARE`

	existsAccount = `SELECT EXISTS (SELECT FROM account WHERE id = $1)`
)

// Accounts is the repository of one transaction, in SQL.
type Accounts struct{ tx *sql.Tx }

// NewAccounts returns the repository of tx.
func NewAccounts(tx *sql.Tx) app.Accounts { return &Accounts{tx: tx} }

// Add implements app.Accounts.
func (r *Accounts) Add(ctx context.Context, a *account.Account) error {
	s := a.State()
	row, err := scanRow(r.tx.QueryRowContext(ctx, insertAccount, s.ID, s.Email, s.Password, s.Generation, s.RegisteredAt, s.ChangedAt))
	if err != nil {
		return fmt.Errorf("add account %s: %w", s.ID, mapError(err))
	}
	return r.finish(ctx, a, row)
}

// Get implements app.Accounts.
func (r *Accounts) Get(ctx context.Context, id account.ID) (*account.Account, error) {
	return r.get(ctx, selectAccount, id)
}

// Hold implements app.Accounts.
func (r *Accounts) Hold(ctx context.Context, id account.ID) (*account.Account, error) {
	return r.get(ctx, holdAccount, id)
}

func (r *Accounts) get(ctx context.Context, query string, id account.ID) (*account.Account, error) {
	var s account.State
	err := r.tx.QueryRowContext(ctx, query, id).Scan(&s.ID, &s.Email, &s.Password, &s.Generation,
		&s.RegisteredAt, &s.ChangedAt, &s.Version, &s.CreatedAt, &s.UpdatedAt)
	if err != nil {
		return nil, fmt.Errorf("get account %s: %w", id, mapError(err))
	}
	for _, t := range []*time.Time{&s.RegisteredAt, &s.ChangedAt, &s.CreatedAt, &s.UpdatedAt} {
		*t = domain.Time(*t)
	}
	return account.FromState(s), nil
}

// Save implements app.Accounts.
func (r *Accounts) Save(ctx context.Context, a *account.Account) error {
	if len(a.Pending()) == 0 {
		return nil
	}
	row, err := r.update(ctx, a, a.Stored())
	if errors.Is(err, sql.ErrNoRows) {
		err = whyNone(ctx, r.tx, existsAccount, a.ID())
	}
	if err != nil {
		return fmt.Errorf("save account %s: %w", a.ID(), mapError(err))
	}
	return r.finish(ctx, a, row)
}

func (r *Accounts) update(ctx context.Context, a *account.Account, version int64) (stored, error) {
	s := a.State()
	return scanRow(r.tx.QueryRowContext(ctx, updateAccount, s.ID, version, s.Email, s.Password, s.Generation, s.ChangedAt))
}

func (r *Accounts) finish(ctx context.Context, a *account.Account, row stored) error {
	row, err := count(a, row, func(version int64) (stored, error) { return r.update(ctx, a, version) })
	if err != nil {
		return fmt.Errorf("save account %s: %w", a.ID(), mapError(err))
	}
	a.Settle(row.createdAt, row.updatedAt)
	return nil
}

// aggregate is what a repository must know to count versions.
type aggregate interface {
	Stored() int64
	Version() int64
}

// count writes the row again until it has counted every pending event, since the
// database adds one version for each write and each event has its own. row is
// what the first write gave.
func count(a aggregate, row stored, again func(version int64) (stored, error)) (stored, error) {
	for expected := a.Stored() + 1; ; expected++ {
		if row.version != expected {
			return stored{}, ErrNotTheTrigger
		}
		if expected == a.Version() {
			return row, nil
		}
		var err error
		if row, err = again(expected); err != nil {
			return stored{}, err
		}
	}
}

// whyNone tells why an update found no row of the version it asked for.
func whyNone(ctx context.Context, tx *sql.Tx, exists string, id any) error {
	var there bool
	if err := tx.QueryRowContext(ctx, exists, id).Scan(&there); err != nil {
		return err
	}
	if there {
		return domain.ErrVersionConflict
	}
	return domain.ErrNotFound
}
