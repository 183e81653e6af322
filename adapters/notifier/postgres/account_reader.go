package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/millrace-go/millrace/adapters/notifier/internal/dberror"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/account"
)

const (
	selectCredentials = `SELECT id, password FROM account WHERE email = $1`
	selectAccountView = `SELECT id, version, email, generation, registered_at FROM account WHERE id = $1`
)

// AccountReader answers from the database, each question in a statement of its
// own. It never writes. It is safe for concurrent use.
type AccountReader struct{ db *sql.DB }

var _ app.AccountReader = (*AccountReader)(nil)

// NewAccountReader returns a reader on db.
func NewAccountReader(db *sql.DB) *AccountReader { return &AccountReader{db: db} }

// Credentials implements app.AccountReader.
func (r *AccountReader) Credentials(ctx context.Context, email string) (c app.Credentials, err error) {
	if err := r.db.QueryRowContext(ctx, selectCredentials, email).Scan(&c.ID, &c.Password); err != nil {
		return app.Credentials{}, fmt.Errorf("read credentials: %w", dberror.Map(err))
	}
	return c, nil
}

// AccountView implements app.AccountReader.
func (r *AccountReader) AccountView(ctx context.Context, id account.ID) (v app.AccountView, err error) {
	err = r.db.QueryRowContext(ctx, selectAccountView, id).Scan(&v.ID, &v.Version, &v.Email, &v.Generation, &v.RegisteredAt)
	if err != nil {
		return app.AccountView{}, fmt.Errorf("read account %s: %w", id, dberror.Map(err))
	}
	v.RegisteredAt = domain.Time(v.RegisteredAt)
	return v, nil
}

// SessionView implements app.AccountReader.
func (r *AccountReader) SessionView(ctx context.Context, id account.SessionID) (app.SessionView, error) {
	s, err := scanSession(r.db.QueryRowContext(ctx, selectSession, id))
	if err != nil {
		return app.SessionView{}, fmt.Errorf("read session %s: %w", id, dberror.Map(err))
	}
	return app.SessionViewOf(s), nil
}
