package house_test

import "fmt"

// finding is one breach: where, of what, by whom.
type finding struct{ at, rule, offender string }

func (f finding) String() string { return fmt.Sprintf("%s: %s: %s", f.at, f.rule, f.offender) }

// rules are the house's, each able to fail (see negative_test.go).
var rules = []struct {
	name  string
	about string
	check func(t tree) []finding
}{
	{"direction", "imports follow DESIGN.md, section House; the tables are below", directionBroken},
	{"watermill", "Watermill types appear only in the files of watermillFiles", watermillElsewhere},
	{"sql-text", "SQL lives in the files of sqlFiles", sqlElsewhere},
	{"folder", "the folders at the top, of adapters and of test are the fixed set", foldersUnknown},
	{"name", "no package is named for what it is not about", namesEmpty},
	{"length", "no source file has more than 400 lines", filesLong},
	{"doc", "every package and exported name has a doc comment, and every field of a library's Config", docsMissing},
	{"sleep", "no test sleeps: it waits for a channel, polls with require.Eventually, or runs in a synctest bubble", testsSleep},
	{"bound", "what a test waits for has a minute at least, and no test judges how long something took: the machine may be busy", boundsShort},
	{"skip", "no test skips itself, unless skips lists it with its reason", testsSkip},
}

// Words of the direction tables. Any other word is a package ("./outbox"), a
// package and all below it ("./domain/..."), or a third party's path.
const (
	std   = "std"   // the standard library
	third = "third" // anything from elsewhere
	own   = "own"   // its own folder and below
)

const (
	watermillCore = "github.com/ThreeDotsLabs/watermill"
	watermillMsg  = "github.com/ThreeDotsLabs/watermill/message"
	uuids         = "github.com/google/uuid"
	testify       = "github.com/stretchr/testify/require"
)

// directionRow says what the files of a folder may import.
type directionRow struct {
	from string   // the folder; "..." takes in what is below it
	may  []string // in all its files
	test []string // further, in its _test.go files
}

// direction is the table; the first row that matches a folder counts.
var direction = []directionRow{
	{"domain/...", []string{std, "./domain/..."}, []string{third}},
	{"app/apptest/...", []string{std, "./app", "./domain/...", testify}, []string{third, own}},
	{"app/...", []string{std, "./app/...", "./domain/..."}, []string{third}},

	{"outbox/internal/...", []string{std}, []string{third, own}},
	{"outbox", []string{std, uuids, watermillCore, watermillMsg, "./outbox/internal/problems"}, []string{third, own, "./sql", "./adapters/kafka", "./test/..."}},
	{"outbox/record", []string{std, watermillMsg}, []string{third, own}},
	{"outbox/replay", []string{std, uuids, watermillMsg, "./outbox", "./outbox/internal/problems"}, []string{third, own}},
	{"outbox/pgstore/...", []string{std, third, "./outbox", "./outbox/internal/problems", "./sql"}, []string{own, "./test/..."}},
	{"sql/...", []string{std, third}, []string{own, "./test/..."}},

	// What adapters share: knows nobody.
	{"adapters/internal/...", []string{std, third, own}, []string{"./test/..."}},

	// Toolkit: knows no app, no domain, no sibling. Its tests may wire siblings.
	{"adapters/kafka/...", []string{std, third, own, "./adapters/internal/...", "./outbox", "./outbox/record"}, toolkitTests},
	{"adapters/consumer/...", []string{std, third, own, "./adapters/internal/...", "./outbox", "./outbox/record", "./adapters/consumer/..."}, toolkitTests},
	{"adapters/cache/...", []string{std, third, own, "./adapters/internal/...", "./outbox", "./adapters/cache"}, toolkitTests},
	{"adapters/schedule/lock/...", []string{std, third, own, "./adapters/internal/...", "./adapters/schedule/internal/...", "./adapters/schedule/lock"}, append([]string{"./adapters/schedule/lock/locktest"}, toolkitTests...)},
	{"adapters/schedule/historytest", []string{std, third, "./adapters/schedule", "./adapters/schedule/lock"}, nil},
	{"adapters/schedule/...", []string{std, third, own, "./adapters/internal/...", "./outbox"}, toolkitTests},
	{"adapters/telemetry/cachemetrics", []string{std, third, "./adapters/telemetry/internal/...", "./adapters/cache"}, toolkitTests},
	{"adapters/telemetry/consumermetrics", []string{std, third, "./adapters/telemetry/internal/...", "./adapters/consumer/..."}, toolkitTests},
	{"adapters/telemetry/jobmetrics", []string{std, third, "./adapters/telemetry/internal/...", "./adapters/schedule/lock"}, toolkitTests},
	{"adapters/telemetry/...", []string{std, third, own, "./adapters/internal/...", "./outbox", "./outbox/record"}, toolkitTests},
	{"adapters/watermillsql/...", []string{std, third, own, "./adapters/internal/...", "./outbox"}, toolkitTests},

	// The whole in one value: wires the toolkit, is imported by cmd and test alone.
	{"adapters/pipeline/...", []string{std, third, own, "./adapters/internal/...", "./outbox/...", "./sql", "./adapters/kafka", "./adapters/consumer/...", "./adapters/cache", "./adapters/schedule/...", "./adapters/telemetry/..."}, []string{"./test/..."}},

	// Service: implements app's ports.
	{"adapters/notifier/codec/...", []string{std, third, own, "./adapters/internal/...", "./app", "./domain/...", "./outbox"}, []string{"./test/..."}},
	{"adapters/notifier/internal/...", []string{std, third, own, "./domain/..."}, nil},
	{"adapters/notifier/postgres/...", []string{std, third, own, "./adapters/notifier/internal/...", "./adapters/internal/...", "./app", "./domain/...", "./outbox", "./adapters/notifier/codec"}, serviceTests},
	{"adapters/notifier/orm/...", []string{std, third, own, "./adapters/notifier/internal/...", "./adapters/internal/...", "./app", "./domain/...", "./outbox", "./adapters/notifier/codec"}, ormTests},
	{"adapters/notifier/views/...", []string{std, third, own, "./adapters/internal/...", "./app", "./domain/...", "./outbox", "./adapters/notifier/codec", "./adapters/cache/..."}, viewTests},
	{"adapters/notifier/passwords/...", []string{std, third, own, "./adapters/internal/...", "./app", "./domain/...", "./outbox", "./adapters/notifier/codec"}, serviceTests},
	{"adapters/notifier/gateway/...", []string{std, third, own, "./adapters/internal/...", "./app", "./domain/...", "./outbox", "./adapters/notifier/codec"}, serviceTests},
	{"adapters/notifier/httpapi/...", []string{std, third, own, "./adapters/internal/...", "./app", "./domain/...", "./outbox", "./adapters/notifier/codec"}, serviceTests},

	// Only what runs its own servers may import the harness.
	{"cmd/millrace/internal/servers/...", []string{std, third, own, "./test/harness"}, []string{"./test/..."}},
	{"cmd/millrace/internal/cli/...", []string{std, third, "./cmd/millrace/...", "./outbox/...", "./sql", "./adapters/cache/...", "./adapters/consumer/...", "./adapters/internal/...", "./adapters/kafka", "./adapters/schedule/...", "./adapters/telemetry", "./adapters/watermillsql"}, []string{"./test/..."}},
	{"cmd/millrace/...", []string{std, third, "./cmd/millrace/...", "./app/...", "./domain/...", "./outbox/...", "./adapters/...", "./sql"}, []string{"./test/..."}},
	{"cmd/notifier/...", []string{std, third, "./cmd/notifier/...", "./app/...", "./domain/...", "./outbox/...", "./adapters/...", "./sql"}, []string{"./test/..."}},

	// Public test packages: what an embedder's tests take in.
	{"test/harness/...", []string{std, third, own, "./sql", "./test/internal/..."}, []string{"./outbox/...", "./adapters/kafka", "./test/lab"}},
	{"test/internal/...", []string{std, third, own, "./test/internal/..."}, nil},
	{"test/lab/...", []string{std, third, own, "./test/harness", "./test/internal/..."}, nil},
	{"test/outboxtest/...", []string{std, third, own, "./outbox"}, []string{"./outbox/...", "./sql", "./test/harness"}},
	{"test/house/...", nil, []string{std, testify, "./outbox/...", "./adapters/kafka", "./test/harness"}},
	{"test/...", []string{std, third, "./outbox/...", "./sql", "./app/...", "./domain/...", "./adapters/...", "./cmd/...", "./test/..."}, nil},
}

// toolkitTests: the tests of a toolkit adapter may wire it with its siblings.
var toolkitTests = []string{"./outbox/...", "./sql", "./adapters/kafka", "./adapters/consumer/...", "./adapters/cache", "./adapters/schedule/...", "./adapters/telemetry/...", "./test/..."}

// serviceTests: the tests of a service adapter run app's suites on real servers.
var serviceTests = []string{"./app/apptest", "./outbox/...", "./sql", "./test/..."}

// The ORM's repositories run in the unit of work of package postgres, and the
// session cache stands on rows that are really there.
var (
	ormTests  = append([]string{"./adapters/notifier/postgres"}, serviceTests...)
	viewTests = append([]string{"./adapters/notifier/postgres"}, serviceTests...)
)

// watermillFiles are where Watermill's types may appear. Writer.Append, Message
// and the Log seam stay free of them.
var watermillFiles = patterns{
	allow: []string{"outbox/*.go", "outbox/record/*.go", "outbox/replay/*.go", "adapters/kafka/...", "adapters/consumer/...", "adapters/telemetry/watermill*.go", "adapters/telemetry/*_test.go", "adapters/watermillsql/...", "adapters/pipeline/...", "outbox/pgstore/*_test.go", "cmd/...", "test/..."},
	deny:  []string{"outbox/writer.go", "outbox/message.go", "outbox/log.go", "outbox/cursor.go", "test/house/..."},
}

// sqlFiles are where SQL may stand, besides _test.go files. The benchmark and the
// demo judge by readers that share no code with the library; the doctor asks what
// no part needs.
var sqlFiles = patterns{
	allow: []string{
		"sql/...", "outbox/pgstore/queries.go", "outbox/pgstore/lag.go", "adapters/notifier/postgres/...", "adapters/consumer/deadletter/audit/queries.go", "adapters/watermillsql/queries.go", "adapters/schedule/queries.go", "adapters/consumer/quarantine/queries.go", "adapters/consumer/inbox/queries.go", "test/...",
		"adapters/schedule/lock/queries.go", "adapters/schedule/internal/jobdb/queries.go",
		"cmd/millrace/internal/bench/...", "cmd/millrace/internal/demo/...", "cmd/millrace/internal/servers/database.go", "cmd/millrace/internal/doctor/postgres.go",
	},
}

// The fixed folders. "deploy", "docs" and "findings" hold no Go.
var (
	topFolders      = []string{"adapters", "app", "cmd", "deploy", "docs", "domain", "findings", "outbox", "sql", "test"}
	foldersWithout  = []string{"deploy", "docs", "findings"}
	adapterFolders  = []string{"cache", "consumer", "internal", "kafka", "notifier", "pipeline", "schedule", "telemetry", "watermillsql"}
	notifierFolders = []string{"codec", "gateway", "httpapi", "internal", "orm", "passwords", "postgres", "views"}
	testFolders     = []string{"bare", "e2e", "faults", "harness", "house", "internal", "interop", "lab", "outboxtest", "report", "servers"}
	cmdFolders      = []string{"millrace", "notifier"}
)

// emptyNames say nothing about what a package is for.
var emptyNames = []string{"base", "common", "helper", "helpers", "misc", "model", "models", "pkg", "shared", "util", "utils"}

// maxLines of a source file that is no test and not generated.
const maxLines = 400

// skips lists the tests that may skip themselves, "file: function", each with
// its reason. The aim is none.
var skips = map[string]string{
	"test/harness/postgres_test.go: TestPostgres_FetchedProgramsServeWhereNoneAreInstalled": "without a network there are no programs to download; the reason is printed",
}
