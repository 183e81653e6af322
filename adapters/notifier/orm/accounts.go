package orm

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

// accountRow is the table account.
type accountRow struct {
	bun.BaseModel `bun:"table:account,alias:account"`

	ID           account.ID `bun:"id,pk,type:uuid"`
	Email        string     `bun:"email"`
	Password     string     `bun:"password"`
	Generation   int64      `bun:"generation"`
	RegisteredAt time.Time  `bun:"registered_at"`
	ChangedAt    time.Time  `bun:"changed_at"`
	entity
}

func accountRowOf(s account.State) *accountRow {
	return &accountRow{
		ID: s.ID, Email: s.Email, Password: s.Password, Generation: s.Generation,
		RegisteredAt: s.RegisteredAt, ChangedAt: s.ChangedAt,
	}
}

func (r *accountRow) state() account.State {
	return account.State{
		Entity: domainEntity(r.ID, r.entity), Email: r.Email, Password: r.Password, Generation: r.Generation,
		RegisteredAt: domain.Time(r.RegisteredAt), ChangedAt: domain.Time(r.ChangedAt),
	}
}

// Accounts is the repository of one transaction.
type Accounts struct{ session }

// Add implements app.Accounts.
func (r *Accounts) Add(ctx context.Context, a *account.Account) error {
	if err := r.insert(ctx, accountRowOf(a.State()), a.ID(), a, accountColumns...); err != nil {
		return fmt.Errorf("add account %s: %w", a.ID(), err)
	}
	return nil
}

// Get implements app.Accounts.
func (r *Accounts) Get(ctx context.Context, id account.ID) (*account.Account, error) {
	return r.read(ctx, id, "")
}

// Hold implements app.Accounts.
func (r *Accounts) Hold(ctx context.Context, id account.ID) (*account.Account, error) {
	return r.read(ctx, id, "SHARE")
}

func (r *Accounts) read(ctx context.Context, id account.ID, lock string) (*account.Account, error) {
	var row accountRow
	if err := r.get(ctx, &row, id, lock); err != nil {
		return nil, fmt.Errorf("get account %s: %w", id, err)
	}
	return account.FromState(row.state()), nil
}

// Save implements app.Accounts.
func (r *Accounts) Save(ctx context.Context, a *account.Account) error {
	if len(a.Pending()) == 0 {
		return nil
	}
	if err := r.update(ctx, accountRowOf(a.State()), a.ID(), a, accountColumns...); err != nil {
		return fmt.Errorf("save account %s: %w", a.ID(), err)
	}
	return nil
}

// accountColumns are those that acts change.
var accountColumns = []string{"email", "password", "generation", "changed_at"}
