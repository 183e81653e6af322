package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
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

	// FOR SHARE lets logins of one account run side by side, and makes anyone who
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
	if err := added(a, row, err, r.update(ctx, s)); err != nil {
		return fmt.Errorf("add account %s: %w", s.ID, err)
	}
	return nil
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
		return nil, fmt.Errorf("get account %s: %w", id, dberror.Map(err))
	}
	for _, t := range []*time.Time{&s.RegisteredAt, &s.ChangedAt, &s.CreatedAt, &s.UpdatedAt} {
		*t = domain.Time(*t)
	}
	return account.FromState(s), nil
}

// Save implements app.Accounts.
func (r *Accounts) Save(ctx context.Context, a *account.Account) error {
	if err := save(ctx, r.tx, a, existsAccount, a.ID(), r.update(ctx, a.State())); err != nil {
		return fmt.Errorf("save account %s: %w", a.ID(), err)
	}
	return nil
}

func (r *Accounts) update(ctx context.Context, s account.State) write {
	return func(version int64) (stored, error) {
		return scanRow(r.tx.QueryRowContext(ctx, updateAccount, s.ID, version, s.Email, s.Password, s.Generation, s.ChangedAt))
	}
}
