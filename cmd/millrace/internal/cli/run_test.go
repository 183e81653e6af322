package cli_test

import (
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// commands are all that there are; a new one has to be added here.
var commands = []string{
	"", "relay", "migrate", "migrate up", "migrate status", "lag", "doctor", "version",
	"parked", "parked list", "parked show", "parked redrive", "parked skip", "parked discard",
	"partitions", "partitions make", "partitions drop", "partitions index", "replay", "import-watermill",
	"demo", "dlt", "dlt list", "dlt show", "dlt stats", "dlt export", "dlt replay", "dlt skip", "dlt discard", "dlt park", "dlt audit",
	"jobs", "jobs list", "jobs history", "jobs locks", "jobs run", "jobs unlock",
	"cache", "cache inspect", "cache invalidate",
	"bench", "bench cache", "bench consume", "bench drain", "bench latency", "bench write", "bench idle", "bench history", "bench locks",
}

func TestHelp_IsWhatItWas(t *testing.T) {
	t.Parallel()
	for _, name := range commands {
		t.Run("millrace "+name, func(t *testing.T) {
			t.Parallel()
			got := run(t, nil, append(strings.Fields(name), "--help")...)
			require.Zero(t, got.code)
			require.Empty(t, got.stderr)
			path := filepath.Join("testdata", "help", strings.ReplaceAll("millrace "+name, " ", "_")+".txt")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(got.out), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got.out, "run the test with -update if the change is meant")
		})
	}
}

func TestHelp_EveryCommandThatActsHasAnExample(t *testing.T) {
	t.Parallel()
	for _, name := range commands {
		got := run(t, nil, append(strings.Fields(name), "--help")...).out
		for line := range strings.Lines(got) {
			sub, _, listed := strings.Cut(strings.TrimSpace(line), "   ")
			if listed && strings.HasPrefix(line, "  ") && !strings.HasPrefix(sub, "-") && !strings.Contains(sub, " ") && sub != "help" {
				require.Contains(t, commands, strings.TrimSpace(name+" "+sub), "a command is missing in this test")
			}
		}
		if !strings.Contains(got, "Available Commands:") {
			require.Contains(t, got, "Examples:", name)
		}
	}
}

func TestRun_ExitsWithTwoForWrongUsage(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		env  map[string]string
		says []string
	}{
		"unknown command":      {args: []string{"relai"}, says: []string{`unknown command "relai"`}},
		"unknown subcommand":   {args: []string{"migrate", "down"}, says: []string{`unknown command "down"`}},
		"stray argument":       {args: []string{"version", "now"}, says: []string{`millrace version takes flags only, not "now"`}},
		"help of what is none": {args: []string{"help", "dlt", "nix"}, says: []string{`unknown command "nix" for "millrace dlt"`}},
		"all bad values of a command's flags, and what is missing, at once": {
			args: []string{"replay", "--rate", "x", "--json=perhaps", "--nix"},
			says: []string{
				"4 problems", `--rate: is "x": give a whole number`, `--json: is "perhaps": give true or false`,
				"unknown flag --nix: see millrace replay --help", "postgres: is missing",
			},
		},
		"bad disposition": {args: []string{"dlt", "list", "--topic=t", "--kafka=h:1", "--disposition=lost"}, says: []string{`--disposition: is "lost": give decode`}},
		"bad duration":    {args: []string{"demo", "--for", "soon"}, says: []string{`--for: is "soon": give a duration such as 3s`}},
		"bad list":        {args: []string{"dlt", "list", "--topic=t", "--kafka=h:1", "--partition=a"}, says: []string{`--partition: is "a": give whole numbers`}},
		"flag of a char":  {args: []string{"lag", "--postgres=postgres://h/d", "-x"}, says: []string{"unknown flag -x: see millrace lag --help"}},
		"flag alone":      {args: []string{"cache", "invalidate", "--redis=h:1", "--query"}, says: []string{"--query: needs a value: see millrace cache invalidate --help"}},
		"out of bounds":   {args: []string{"relay", "--lease=2h"}, says: []string{"lease (flag --lease): is 2h: give 200ms to 1h"}},
		"all unknown flags and all bad settings at once": {
			args: []string{"relay", "--kafak", "x:1", "--posgres=y", "--lease", "1ms"},
			env:  map[string]string{"MILLRACE_LOG_LEVEL": "loud", "KAFKA_BROKERS": "nohost"},
			says: []string{
				"6 problems", "unknown flag --kafak", "unknown flag --posgres", "postgres: is missing", "lease (flag --lease): is 1ms",
				`log-level (env MILLRACE_LOG_LEVEL): is "loud"`, `kafka (env KAFKA_BROKERS): has "nohost"`,
			},
		},
		"settings that contradict each other": {
			args: []string{"relay", "--postgres=postgres://h/d", "--kafka=h:1", "--batch-rows=20", "--window-rows=10"},
			says: []string{"window-rows: is 10, less than batch-rows 20"},
		},
		"all bad options of demo":  {args: []string{"demo", "--for=1ms", "--rate=0"}, says: []string{"2 problems", "--for:", "--rate:"}},
		"all bad options of bench": {args: []string{"bench", "drain", "--rows=0", "--payload=1"}, says: []string{"2 problems", "--rows:", "--payload:"}},
		"bad line of migrations":   {args: []string{"migrate", "up", "--postgres=postgres://h/d", "--line=x"}, says: []string{`--line: is "x"`}},
		"bad file": {
			args: []string{"lag", "--config", "/no/such/file.yaml"}, says: []string{"/no/such/file.yaml", "postgres: is missing"},
		},
		"discard of everything":    {args: []string{"parked", "discard", "--postgres=postgres://h/d"}, says: []string{"--topic or --key"}},
		"skip of nothing":          {args: []string{"parked", "skip", "--postgres=postgres://h/d"}, says: []string{"--position"}},
		"dead letters of no topic": {args: []string{"dlt", "stats", "--kafka=h:1"}, says: []string{"--topic: must be given"}},
		"a command that has moved": {args: []string{"rebuild", "counters", "--yes"}, says: []string{"notifier rebuild VIEW", "adapters/cache/rebuild"}},
		"bad limits of replay":     {args: []string{"dlt", "replay", "--topic=t", "--kafka=h:1", "--rate=0"}, says: []string{"--rate: must be positive"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, tc.env, tc.args...)
			require.Equal(t, 2, got.code, got.stderr)
			require.Empty(t, got.out)
			for _, s := range tc.says {
				require.Contains(t, got.stderr, s)
			}
		})
	}
}

func TestRun_CompletesFlagsForTheShell(t *testing.T) {
	t.Parallel()
	got := run(t, nil, "__complete", "relay", "--outb")
	require.Zero(t, got.code, got.stderr)
	require.Contains(t, got.out, "--outboxes")
	require.Zero(t, run(t, nil, "completion", "bash", "--no-descriptions").code)
}

func TestRun_OneShotCommandsNameAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	const pg, kafka = "postgres://u:hush@127.0.0.1:1/d?sslmode=disable", "127.0.0.1:1"
	for name, args := range map[string][]string{
		"postgres at": {"lag", "--postgres", pg},
		"kafka at":    {"dlt", "list", "--topic=t", "--kafka", kafka},
	} {
		got := run(t, nil, args...)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.stderr, name+" 127.0.0.1:1 does not answer")
		require.Contains(t, got.stderr, "start it, or correct --")
		require.NotContains(t, got.stderr, "hush")
	}
	got := run(t, nil, "doctor", "--postgres", pg, "--kafka", kafka, "--redis", "127.0.0.1:1", "--json")
	require.Equal(t, 3, got.code)
	require.NotContains(t, got.out+got.stderr, "hush")
	require.Equal(t, map[string]string{"postgres": "fail", "kafka": "fail", "redis": "fail"}, statuses(t, got.out))
}

func TestRun_OneShotCommandsSayWhyAServerRefuses(t *testing.T) {
	t.Parallel()
	at := func(change func(u *url.URL)) string {
		u, err := url.Parse(harness.EmptyDatabase(t).DSN)
		require.NoError(t, err)
		change(u)
		return u.String()
	}
	for want, dsn := range map[string]string{
		"create the database, or correct its name": at(func(u *url.URL) { u.Path = "/nosuch" }),
		"correct user and password":                at(func(u *url.URL) { u.User = url.User("nobody_of_this_name") }),
		"add sslmode=disable":                      at(func(u *url.URL) { u.RawQuery = "sslmode=require" }),
	} {
		got := run(t, nil, "lag", "--postgres", dsn)
		require.Equal(t, 1, got.code)
		require.Contains(t, got.stderr, " refuses: ")
		require.Contains(t, got.stderr, want)
		require.Contains(t, run(t, nil, "doctor", "--postgres", dsn).out, want)
	}
}

func TestRun_AnInterruptedCommandTellsTheSignal(t *testing.T) {
	t.Parallel()
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		c := start(t, nil, "demo", "--for", "1h", "--rate", "10")
		c.says(t, "writing 10 events")
		require.Equal(t, code, c.signal(t, sig).code)
	}
}

func TestVersion_TellsGoRelease(t *testing.T) {
	t.Parallel()
	require.Contains(t, run(t, nil, "version").out, runtime.Version())
	got := run(t, nil, "version", "--json")
	require.Zero(t, got.code)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.out), &v))
	require.Equal(t, runtime.Version(), v["go"])
	require.Contains(t, v, "commit")
}

// statuses maps the checks of doctor --json to their status.
func statuses(t *testing.T, out string) map[string]string {
	t.Helper()
	var report struct {
		Status string
		Checks []struct{ Name, Status, Detail, Fix string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	found := map[string]string{}
	for _, c := range report.Checks {
		found[c.Name] = c.Status
		if c.Status == "fail" || c.Status == "warn" {
			require.NotEmpty(t, c.Fix, "%s says not what to do", c.Name)
		}
	}
	return found
}
