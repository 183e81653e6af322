package watermillsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoStockTable means that the messages or offsets table of watermill-sql
	// does not exist.
	ErrNoStockTable = errors.New("table of watermill-sql is missing")
	// ErrUnknownGroup means that the consumer group has no row in the stock offsets
	// table: importing for it would move the whole table, delivered rows included.
	ErrUnknownGroup = errors.New("consumer group has never read the stock table")
)

// stock names the tables of one watermill-sql topic, quoted.
type stock struct{ messages, offsets string }

// text fills the table names into a query.
func (s stock) text(query string) string {
	return strings.NewReplacer("%[1]s", s.messages, "%[2]s", s.offsets).Replace(query)
}

// mark is the position that a consumer group has acknowledged.
type mark struct {
	offset int64
	xid    string // an xid8
}

// querier is a *sql.DB or *sql.Tx.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// check returns an error if a table is missing or group is unknown.
func (s stock) check(ctx context.Context, q querier, group string, fromStart bool) error {
	var messages, offsets bool
	if err := q.QueryRowContext(ctx, stockTablesSQL, s.messages, s.offsets).Scan(&messages, &offsets); err != nil {
		return err
	}
	var errs []error
	if !messages {
		errs = append(errs, fmt.Errorf("%w: %s", ErrNoStockTable, s.messages))
	}
	if !offsets {
		errs = append(errs, fmt.Errorf("%w: %s", ErrNoStockTable, s.offsets))
	}
	if err := errors.Join(errs...); err != nil || fromStart {
		return err
	}
	groups, err := s.groups(ctx, q)
	if err != nil {
		return err
	}
	for _, g := range groups {
		if g == group {
			return nil
		}
	}
	return fmt.Errorf("%w: %q is not among %q in %s", ErrUnknownGroup, group, groups, s.offsets)
}

func (s stock) groups(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.QueryContext(ctx, s.text(groupsSQL))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var groups []string
	for rows.Next() {
		var g string
		if err := rows.Scan(&g); err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, rows.Err()
}

// mark returns what group has acknowledged, and locks it if lock is set. A group
// without a row is at the start.
func (s stock) mark(ctx context.Context, q querier, group string, lock bool) (mark, error) {
	query := markSQL
	if lock {
		query = markLockedSQL
	}
	var offset sql.NullInt64
	m := mark{xid: "0"}
	err := q.QueryRowContext(ctx, s.text(query), group).Scan(&offset, &m.xid)
	if errors.Is(err, sql.ErrNoRows) && !lock {
		return m, nil
	}
	if err != nil {
		return m, fmt.Errorf("read the offset of group %q: %w", group, err)
	}
	m.offset = offset.Int64
	return m, nil
}
