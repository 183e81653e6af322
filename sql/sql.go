// Package sql embeds the schema of Millrace and applies it. There are two lines
// of migrations: [Outbox] is what every embedder needs, [Service] belongs to the
// reference service. Import it as migrations:
//
//	import migrations "github.com/millrace-go/millrace/sql"
package sql

import (
	"context"
	stdsql "database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed outbox/*.sql service/*.sql
var files embed.FS

// Line is one sequence of migrations, numbered and recorded by itself.
type Line struct {
	name  string
	table string
	lock  int64 // advisory lock that serializes processes starting at once
}

// The two lines. Service needs nothing of Outbox, and the other way round.
var (
	Outbox  = Line{name: "outbox", table: "millrace_outbox_migrations", lock: 7305400617440913201}
	Service = Line{name: "service", table: "millrace_service_migrations", lock: 7305400617440913202}
)

// Lines lists all lines in the order in which to apply them.
func Lines() []Line { return []Line{Outbox, Service} }

func (l Line) String() string { return l.name }

// Files returns the line's SQL files, for those who apply them by other means.
func (l Line) Files() fs.FS {
	sub, err := fs.Sub(files, l.name)
	if err != nil { // the folder is embedded: it cannot be missing
		return embed.FS{}
	}
	return sub
}

// Migration is one migration and whether it has been applied.
type Migration struct {
	Line    string `json:"line"`
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

// Up applies the pending migrations of line in order, each in a transaction, and
// returns those it applied. Processes that start at once wait for each other;
// the later ones find nothing to do.
func Up(ctx context.Context, db *stdsql.DB, line Line) ([]Migration, error) {
	p, err := provider(db, line)
	if err != nil {
		return nil, err
	}
	results, err := p.Up(ctx)
	applied := make([]Migration, 0, len(results))
	for _, r := range results {
		applied = append(applied, Migration{Line: line.name, Version: r.Source.Version, Name: r.Source.Path, Applied: true})
	}
	if err != nil {
		return applied, fmt.Errorf("migrate %s: %w", line, err)
	}
	return applied, nil
}

// Status lists all migrations of line.
func Status(ctx context.Context, db *stdsql.DB, line Line) ([]Migration, error) {
	p, err := provider(db, line)
	if err != nil {
		return nil, err
	}
	states, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migration status of %s: %w", line, err)
	}
	all := make([]Migration, 0, len(states))
	for _, s := range states {
		all = append(all, Migration{Line: line.name, Version: s.Source.Version, Name: s.Source.Path, Applied: s.State == goose.StateApplied})
	}
	return all, nil
}

func provider(db *stdsql.DB, line Line) (*goose.Provider, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(line.lock), lock.WithLockTimeout(1, 120))
	if err != nil {
		return nil, fmt.Errorf("migrate %s: %w", line, err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, line.Files(),
		goose.WithTableName(line.table), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("migrate %s: %w", line, err)
	}
	return p, nil
}
