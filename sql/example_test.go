package sql_test

import (
	"fmt"
	"io/fs"

	migrations "github.com/millrace-go/millrace/sql"
)

// The SQL files of a line, for a migration tool of one's own. Up applies them.
func ExampleLine_Files() {
	files, err := fs.Glob(migrations.Outbox.Files(), "0000[1-3]*.sql")
	fmt.Println(migrations.Outbox, files, err)
	// Output: outbox [00001_outbox.sql 00002_doorbell.sql 00003_retention.sql] <nil>
}

// Lines lists what Millrace has; an embedder applies Outbox only.
func ExampleLines() {
	for _, line := range migrations.Lines() {
		fmt.Println(line)
	}
	// Output:
	// outbox
	// service
}
