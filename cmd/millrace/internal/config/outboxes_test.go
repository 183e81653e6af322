package config_test

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/config"
)

var fleetUse = config.Use{
	Required: []config.Name{config.Kafka},
	Either:   []config.Name{config.Postgres, config.Outboxes},
	Optional: []config.Name{config.HandOverAfter},
}

func loadFleet(t *testing.T, s sources) (*config.Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(fs, fleetUse)
	require.NoError(t, fs.Parse(append([]string{"--kafka=a:1"}, s.flags...)))
	path := ""
	if s.file != "" {
		path = write(t, "millrace.yaml", s.file)
	}
	return config.Load(fs, func(k string) string { return s.env[k] }, path, fleetUse)
}

func TestOutboxes_AreTakenApart(t *testing.T) {
	t.Parallel()
	orders := config.Outbox{Name: "orders", Postgres: "postgres://u:p=w@h/shop?search_path=orders"}
	cases := map[string]struct {
		from sources
		want []config.Outbox
	}{
		"with a name": {sources{flags: []string{"--outboxes", "orders=" + orders.Postgres}}, []config.Outbox{orders}},
		"named for database and schema": {
			sources{flags: []string{"--outboxes", "postgres://h/shop, postgresql://h/shop?search_path=Orders%20b,public,postgres://h"}},
			[]config.Outbox{{Name: "shop", Postgres: "postgres://h/shop"}, {Name: "shop.Orders-b", Postgres: "postgresql://h/shop?search_path=Orders%20b,public"}, {Name: "outbox", Postgres: "postgres://h"}},
		},
		"several hosts in one": {
			sources{env: map[string]string{"MILLRACE_OUTBOXES": "a=postgres://h1:1,h2:2/d,b=postgres://h3/e"}},
			[]config.Outbox{{Name: "a", Postgres: "postgres://h1:1,h2:2/d"}, {Name: "b", Postgres: "postgres://h3/e"}},
		},
		"a file with a line each": {
			sources{env: map[string]string{"MILLRACE_OUTBOXES_FILE": write(t, "secret", "a=postgres://h/a\n\nb=postgres://h/b\n")}},
			[]config.Outbox{{Name: "a", Postgres: "postgres://h/a"}, {Name: "b", Postgres: "postgres://h/b"}},
		},
		"a list in the settings file": {
			sources{file: "outboxes:\n  - a=postgres://h/a\n  - postgres://h/b\n"},
			[]config.Outbox{{Name: "a", Postgres: "postgres://h/a"}, {Name: "b", Postgres: "postgres://h/b"}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := loadFleet(t, tc.from)
			require.NoError(t, err)
			require.Equal(t, tc.want, c.Outboxes)
			require.Zero(t, c.HandOverAfter, "the library's default")
		})
	}
}

func TestOutboxes_AreRefusedByNumberAndNeverRepeated(t *testing.T) {
	t.Parallel()
	c, err := loadFleet(t, sources{flags: []string{"--outboxes", "host=h password=hush\nmysql://hush@h/d\npostgres://h/same\nsame=postgres://u:hush@h2/d"}})
	require.ErrorContains(t, err, "outboxes (flag --outboxes): number 1 is not a Postgres URL")
	require.ErrorContains(t, err, "number 2 is not a Postgres URL")
	require.ErrorContains(t, err, "number 3 and 4 are both called same")
	require.NotContains(t, err.Error(), "hush")
	require.NotNil(t, c)
	_, err = loadFleet(t, sources{flags: []string{"--outboxes", " , "}})
	require.ErrorContains(t, err, "names no outbox")
}

func TestLoad_TakesExactlyOneOfPostgresAndOutboxes(t *testing.T) {
	t.Parallel()
	_, err := loadFleet(t, sources{})
	require.ErrorContains(t, err, "postgres: is missing: give --postgres, MILLRACE_POSTGRES or DATABASE_URL; or give --outboxes or MILLRACE_OUTBOXES")
	_, err = loadFleet(t, sources{flags: []string{"--outboxes=postgres://h/d"}, env: map[string]string{"DATABASE_URL": "postgres://h/d"}})
	require.ErrorContains(t, err, "postgres (env DATABASE_URL) and outboxes (flag --outboxes): keep one of them")
	_, err = loadFleet(t, sources{env: map[string]string{"MILLRACE_OUTBOXES_FILE": "/no/such/file"}})
	require.ErrorContains(t, err, "/no/such/file")
	require.NotContains(t, err.Error(), "is missing")
}
