package house_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// breaches are made-up files: each breaks one rule, or (offender "") none.
var breaches = []struct {
	name, rule, file, text string
	offender               string // what the finding must name
}{
	{"domain is pure", "direction", "domain/event.go", imports("github.com/google/uuid"), "domain may not import github.com/google/uuid"},
	{"domain knows no app", "direction", "domain/account/account.go", imports(module + "/app"), "may not import ./app"},
	{"domain may know itself", "direction", "domain/account/account.go", imports(module+"/domain", "time"), ""},
	{"app knows no outbox", "direction", "app/ports.go", imports(module + "/outbox"), "app may not import ./outbox"},
	{"app takes no third party", "direction", "app/ports.go", imports("github.com/lib/pq"), "may not import github.com/lib/pq"},
	{"outbox knows no adapter", "direction", "outbox/relay.go", imports(module + "/adapters/kafka"), "outbox may not import ./adapters/kafka"},
	{"outbox takes no driver", "direction", "outbox/relay.go", imports("github.com/lib/pq"), "may not import github.com/lib/pq"},
	{"outbox knows no store", "direction", "outbox/relay.go", imports(module + "/outbox/pgstore"), "may not import ./outbox/pgstore"},
	{"an outbox test may", "direction", "outbox/relay_test.go", imports(module+"/outbox/pgstore", module+"/test/harness"), ""},
	{"an outbox test knows no domain", "direction", "outbox/relay_test.go", imports(module + "/domain"), "may not import ./domain"},
	{"pgstore knows no domain", "direction", "outbox/pgstore/store.go", imports(module + "/domain"), "may not import ./domain"},
	{"toolkit knows no app", "direction", "adapters/cache/entry.go", imports(module + "/app"), "adapters/cache may not import ./app"},
	{"toolkit knows no sibling", "direction", "adapters/consumer/router.go", imports(module + "/adapters/kafka"), "may not import ./adapters/kafka"},
	{"toolkit takes no harness", "direction", "adapters/kafka/publisher.go", imports(module + "/test/harness"), "may not import ./test/harness"},
	{"its test does", "direction", "adapters/kafka/publisher_test.go", imports(module + "/test/harness"), ""},
	{"a service adapter knows no other", "direction", "adapters/notifier/postgres/tx.go", imports(module + "/adapters/kafka"), "may not import ./adapters/kafka"},
	{"a service adapter knows codec", "direction", "adapters/notifier/postgres/tx.go", imports(module+"/adapters/notifier/codec", module+"/app"), ""},
	{"views stand on the cache", "direction", "adapters/notifier/views/sessions.go", imports(module + "/adapters/cache"), ""},
	{"another service adapter does not", "direction", "adapters/notifier/httpapi/api.go", imports(module + "/adapters/cache"), "may not import ./adapters/cache"},
	{"cmd takes no harness", "direction", "cmd/notifier/main.go", imports(module + "/test/harness"), "may not import ./test/harness"},
	{"the demo's servers do", "direction", "cmd/millrace/internal/servers/servers.go", imports(module + "/test/harness"), ""},
	{"the tool knows no example", "direction", "cmd/millrace/internal/cli/rebuild.go", imports(module + "/adapters/notifier/views"), "may not import ./adapters/notifier/views"},
	{"one command knows no other", "direction", "cmd/notifier/main.go", imports(module + "/cmd/millrace/internal/cli"), "may not import ./cmd/millrace/internal/cli"},
	{"the harness knows no service", "direction", "test/harness/kafka.go", imports(module + "/app"), "may not import ./app"},
	{"every folder has a row", "direction", "plugins/x.go", imports("fmt"), "has no row"},

	{"domain is free of Watermill", "watermill", "domain/event.go", imports(watermillMsg), "imports " + watermillMsg},
	{"the Writer is free of Watermill", "watermill", "outbox/writer.go", imports(watermillMsg), "imports " + watermillMsg},
	{"the store is free of Watermill", "watermill", "outbox/pgstore/store.go", imports(watermillMsg), "imports " + watermillMsg},
	{"telemetry has one file for it", "watermill", "adapters/telemetry/trace.go", imports(watermillMsg), "imports " + watermillMsg},
	{"and that file may", "watermill", "adapters/telemetry/watermill.go", imports(watermillCore), ""},
	{"the cache is free of it, any module", "watermill", "adapters/cache/x.go", imports("github.com/ThreeDotsLabs/watermill-sql/v3/pkg/sql"), "imports"},

	{"a query in cmd", "sql-text", "cmd/millrace/internal/cli/lag.go", text("SELECT count(*) FROM outbox"), "SELECT count(*) FROM outbox"},
	{"a lower-case query", "sql-text", "app/x.go", text("select id from account where id = $1"), "select id"},
	{"an insert", "sql-text", "adapters/notifier/views/x.go", text("\n\tINSERT INTO a (b) VALUES ($1)"), "INSERT INTO a"},
	{"an update", "sql-text", "outbox/relay.go", text("UPDATE outbox_cursor AS c SET x = 1"), "UPDATE"},
	{"a common table expression", "sql-text", "outbox/relay.go", text("WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a"), "WITH"},
	{"a definition", "sql-text", "outbox/pgstore/store.go", text("create table x (y int)"), "create table"},
	{"a setting", "sql-text", "outbox/pgstore/store.go", text("SET jit = off"), "SET jit"},
	{"SQL in its place", "sql-text", "outbox/pgstore/queries.go", text("SELECT 1"), ""},
	{"SQL in a test", "sql-text", "cmd/millrace/internal/cli/lag_test.go", text("SELECT 1"), ""},
	{"words that are no SQL", "sql-text", "cmd/millrace/internal/cli/lag.go", text("update the view, then select one of them; run SELECT 1"), ""},
	{"an order that is no SQL", "sql-text", "cmd/millrace/internal/cli/lag.go", text("set it to 2, or select another from the list"), ""},

	{"a new top-level folder", "folder", "lib/x.go", "package lib", "is not one of"},
	{"a new adapter", "folder", "adapters/rabbit/x.go", "package rabbit", "is not one of"},
	{"Go in docs", "folder", "docs/x.go", "package docs", "docs holds no Go"},
	{"Go at the top", "folder", "x.go", "package millrace", "the top holds no Go"},
	{"an empty folder name", "name", "cmd/millrace/util/x.go", "package text", "folder util"},
	{"an empty package name", "name", "cmd/millrace/text/x.go", "package helpers", "package helpers"},
	{"a long file", "length", "app/x.go", "package app\n" + strings.Repeat("//\n", maxLines), "has 401 lines"},
	{"a long file that is generated", "length", "app/x.go", "// Code generated by sqlc. DO NOT EDIT.\npackage app\n" + strings.Repeat("//\n", maxLines), ""},
	{"a long test", "length", "app/x_test.go", "package app\n" + strings.Repeat("//\n", maxLines), ""},

	{"a function without comment", "doc", "app/x.go", "// Package app is.\npackage app\nfunc Do() {}", "Do has no doc comment"},
	{"a method without comment", "doc", "app/x.go", "// Package app is.\npackage app\ntype t struct{}\n// T is.\ntype T[K any] struct{}\nfunc (t) Do() {}\nfunc (*T[K]) Undo() {}", "Undo has no doc comment"},
	{"a type without comment", "doc", "app/x.go", "// Package app is.\npackage app\ntype (\n\tPort interface{}\n)", "Port has no doc comment"},
	{"a constant without comment", "doc", "app/x.go", "// Package app is.\npackage app\nconst (\n\tA = 1 // A is.\n\tB = 2\n)", "B has no doc comment"},
	{"a config field without comment", "doc", "app/x.go", "// Package app is.\npackage app\n// XConfig is.\ntype XConfig struct{ Size int }", "Size has no doc comment"},
	{"a config field named beside another", "doc", "app/x.go", "// Package app is.\npackage app\n// XConfig is.\ntype XConfig struct {\n// Min and Max bound.\nMin int\nMax int }", ""},
	{"a package without comment", "doc", "app/x.go", "package app", "package app has no package comment"},
	{"all commented", "doc", "app/x.go", "// Package app is.\npackage app\n// Err is.\nvar Err, Err2 error\n// E is.\ntype E struct{}\nfunc (E) Error() string { return \"\" }", ""},

	{"a sleeping test", "sleep", "app/x_test.go", "package app\nimport \"time\"\nfunc f() { time.Sleep(1) }", "calls time.Sleep"},
	{"a sleeping test under another name", "sleep", "app/x_test.go", "package app\nimport clock \"time\"\nvar f = clock.Sleep", "calls time.Sleep"},
	{"a fake clock", "sleep", "app/x_test.go", "package app\nfunc f() { clock.Sleep(1) }", ""},
	{"a synctest bubble", "sleep", "app/x_test.go", "package app\nimport (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { time.Sleep(1); synctest.Wait() }", ""},
	{"a wait that a busy machine ends", "bound", "app/x_test.go", bounded("require.Eventually(t, f, 20*time.Second, time.Millisecond)"), "waits 20*time.Second at most"},
	{"an await that a busy machine ends", "bound", "test/e2e/x_test.go", bounded("harness.Await(t, 500*time.Millisecond, \"x\", f)"), "waits 500*time.Millisecond at most"},
	{"a wait of minutes", "bound", "app/x_test.go", bounded("require.Eventually(t, f, 2*time.Minute, time.Millisecond)"), ""},
	{"a wait with a name", "bound", "app/x_test.go", bounded("require.Eventually(t, f, liveness, time.Millisecond)"), ""},
	{"a judgement of speed", "bound", "app/x_test.go", bounded("require.Less(t, time.Since(began), time.Hour)"), "judges time.Since"},
	{"a least time", "bound", "app/x_test.go", bounded("require.GreaterOrEqual(t, time.Since(began), time.Second)"), ""},
	{"a judgement by a fake clock", "bound", "app/x_test.go", "package app\nimport (\n\"testing/synctest\"\n\"time\"\n)\nfunc f() { synctest.Wait(); require.Less(t, time.Since(began), time.Hour) }", ""},
	{"a skipping test", "skip", "app/x_test.go", "package app\nfunc TestX(t *testing.T) { t.Skipf(\"no\") }", "TestX calls Skipf"},
	{"a package's name", "skip", "app/x_test.go", "package app\nimport \"x.org/m/pgstore\"\nvar a = pgstore.Skip", ""},
	{"a skipping harness", "skip", "test/harness/x.go", "package harness\nfunc F(t testing.TB) { t.SkipNow() }", "F calls SkipNow"},
}

func TestHouse_EachRuleCanFail(t *testing.T) {
	t.Parallel()
	broken := map[string]bool{}
	for _, b := range breaches {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			found := check(t, b.rule, b.file, b.text)
			if b.offender == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			require.Equal(t, b.rule, found[0].rule)
			require.True(t, strings.HasPrefix(b.file, strings.SplitN(found[0].at, ":", 2)[0]), "%s is not in %s", found[0].at, b.file)
			require.Contains(t, found[0].offender, b.offender)
		})
		broken[b.rule] = broken[b.rule] || b.offender != ""
	}
	for _, r := range rules {
		require.True(t, broken[r.name], "no made-up file breaks the rule %s", r.name)
	}
}

// check asks one rule about a tree of one file.
func check(t *testing.T, rule, file, content string) []finding {
	t.Helper()
	s, err := parse(file, content)
	require.NoError(t, err)
	tr := tree{sources: []source{s}}
	for folder := s.pkg; folder != "."; folder = parent(folder) {
		tr.folders = append(tr.folders, folder)
	}
	for _, r := range rules {
		if r.name == rule {
			return r.check(tr)
		}
	}
	require.FailNow(t, "no such rule", rule)
	return nil
}

func parent(folder string) string {
	if i := strings.LastIndexByte(folder, '/'); i >= 0 {
		return folder[:i]
	}
	return "."
}

func imports(paths ...string) string {
	return "package x\nimport (\n_ \"" + strings.Join(paths, "\"\n_ \"") + "\"\n)\n"
}

func bounded(call string) string {
	return "package x\nimport \"time\"\nfunc f() { " + call + " }\n"
}

func text(literal string) string { return "package x\nvar s = `" + literal + "`\n" }
