package house_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// block is one SQL block of a document: "sql", "sql refused" or "sql refused as role".
var block = regexp.MustCompile("(?ms)^```sql( refused)?(?: as (\\w+))?\n(.*?)^```$")

// TestContract_HoldsAsWritten runs every SQL block of docs/contract.md in the
// order of the page. What it says is refused must fail, statement by statement.
func TestContract_HoldsAsWritten(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/contract.md")
	require.NoError(t, err)
	db := harness.NewDatabase(t)
	conn, err := db.DB.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	// Roles belong to the server, not to the test's database.
	made := regexp.MustCompile(`(?m)^CREATE ROLE (\w+);$`).FindAllStringSubmatch(string(page), -1)
	require.Len(t, made, 2)
	dropRoles := func(ctx context.Context) {
		for _, role := range made {
			_, err := conn.ExecContext(ctx, `DO $$ BEGIN IF to_regrole('`+role[1]+`') IS NOT NULL THEN EXECUTE 'DROP OWNED BY `+role[1]+`; DROP ROLE `+role[1]+`'; END IF; END $$`)
			require.NoError(t, err)
		}
	}
	dropRoles(t.Context())
	t.Cleanup(func() { dropRoles(context.Background()) })

	blocks := block.FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(blocks), 10)
	refused := 0
	for _, b := range blocks {
		if b[1] == "" {
			_, err := conn.ExecContext(t.Context(), b[3])
			require.NoError(t, err, b[3])
			continue
		}
		for statement := range strings.Lines(b[3]) {
			if b[2] != "" {
				_, err := conn.ExecContext(t.Context(), `SET ROLE `+b[2])
				require.NoError(t, err)
			}
			_, err := conn.ExecContext(t.Context(), statement)
			require.Error(t, err, statement)
			refused++
			_, err = conn.ExecContext(t.Context(), `RESET ROLE`)
			require.NoError(t, err)
		}
	}
	require.Equal(t, 14, refused)
}
