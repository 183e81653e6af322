// Package dberror translates errors of Postgres into those of the domain, for all
// repositories of the reference service.
//
// Reference code: no compatibility promise.
package dberror

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/lib/pq"

	"github.com/millrace-go/millrace/domain"
)

// Map adds the domain's sentinel to a database error that means one. The database's
// own error stays in the chain.
func Map(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return domain.ErrNotFound
	}
	var e *pq.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case "23505": // unique_violation
		return fmt.Errorf("%w: %w", domain.ErrDuplicate, err)
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w: %w", domain.ErrReference, err)
	}
	return err
}
