package harness

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/lib/pq"

	migrations "github.com/millrace-go/millrace/sql"
)

// createDatabase clones the template of the lines, which is made when it turns out
// not to be there. Without lines the database is empty.
func createDatabase(ctx context.Context, admin, name string, lines []migrations.Line) error {
	if len(lines) == 0 {
		return cloneDatabase(ctx, admin, name, "template0")
	}
	hash, err := migrationsHash(lines)
	if err != nil {
		return err
	}
	template := "millrace_template_" + hash
	err = cloneDatabase(ctx, admin, name, template)
	if pqErr, ok := errors.AsType[*pq.Error](err); !ok || pqErr.Code != "3D000" {
		return err
	}
	if err := migratedTemplate(ctx, admin, template, lines); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	return cloneDatabase(ctx, admin, name, template)
}

func cloneDatabase(ctx context.Context, admin, name, template string) error {
	return execPostgres(ctx, admin, "CREATE DATABASE "+pq.QuoteIdentifier(name)+" TEMPLATE "+pq.QuoteIdentifier(template))
}

// templateLock is the advisory lock under which the template is made.
const templateLock = 7305400617440913203

// migratedTemplate makes a database with the lines' migrations unless another
// process has made it meanwhile. Its name differs for each set of migrations, so that
// packages, reruns and versions of the tree share a server.
func migratedTemplate(ctx context.Context, admin, name string, lines []migrations.Line) error {
	db, err := sql.Open("postgres", admin)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx) // the lock belongs to the session
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return err
	}
	var made bool
	err = conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&made)
	if err == nil && !made {
		err = makeTemplate(ctx, conn, admin, name, lines)
	}
	_, unlockErr := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", templateLock)
	return errors.Join(err, unlockErr)
}

// makeTemplate migrates a database under another name first: one that was left
// half done never passes for the template.
func makeTemplate(ctx context.Context, conn *sql.Conn, admin, name string, lines []migrations.Line) error {
	part := name + "_part"
	for _, statement := range []string{
		"DROP DATABASE IF EXISTS " + pq.QuoteIdentifier(part) + " WITH (FORCE)",
		"CREATE DATABASE " + pq.QuoteIdentifier(part) + " TEMPLATE template0",
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	dsn, err := withDatabase(admin, part)
	if err != nil {
		return err
	}
	if err := migrate(ctx, dsn, lines); err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "ALTER DATABASE "+pq.QuoteIdentifier(part)+" RENAME TO "+pq.QuoteIdentifier(name))
	return err
}

func migrate(ctx context.Context, dsn string, lines []migrations.Line) error {
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, line := range lines {
		if _, err := migrations.Up(ctx, db, line); err != nil {
			return err
		}
	}
	return nil
}

// migrationsHash is a short hash of the migrations' names and texts.
func migrationsHash(lines []migrations.Line) (string, error) {
	h := sha256.New()
	for _, line := range lines {
		files := line.Files()
		err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := fs.ReadFile(files, path)
			fmt.Fprintf(h, "%s/%s %d\n%s", line, path, len(text), text)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
