package cache

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResp_ReadsWhatRedisMaySend(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		"+OK\r\n":                    "OK",
		"-ERR no\r\n":                respError("ERR no"),
		":-12\r\n":                   int64(-12),
		"$3\r\na\r\n\r\n":            "a\r\n",
		"$-1\r\n":                    nil,
		"_\r\n":                      nil,
		"#t\r\n":                     "t",
		",1.5\r\n":                   "1.5",
		"=5\r\ntxt:a\r\n":            "txt:a",
		"!5\r\nERR x\r\n":            respError("ERR x"),
		"*2\r\n:1\r\n*0\r\n":         []any{int64(1), []any{}},
		"%1\r\n+a\r\n~1\r\n:2\r\n":   []any{"a", []any{int64(2)}},
		"|1\r\n+ttl\r\n:1\r\n+v\r\n": "v",
		">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n": respPush{"invalidate", []any{"k"}},
		">2\r\n$10\r\ninvalidate\r\n_\r\n":             respPush{"invalidate", nil},
	} {
		got, err := newRespReader(strings.NewReader(text)).next()
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, got, "%q", text)
	}
}

func TestResp_RefusesWhatItIsNot(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "+OK\n", "$x\r\n", "$-5\r\n", "$999999999999\r\n", "*-7\r\n", "*99999999\r\n", "$3\r\nab", "?1\r\n", ":x\r\n",
		strings.Repeat("*1\r\n", 20), "*2\r\n:1\r\n", "%1\r\n+a\r\n", strings.Repeat("x", 40_000)} {
		_, err := newRespReader(strings.NewReader(text)).next()
		require.Error(t, err, "%.40q", text)
	}
}

func TestResp_WritesCommands(t *testing.T) {
	t.Parallel()
	require.Equal(t, "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", string(respCommand("GET", "")))
}

func TestEntry_HeaderIsReadBackAndNothingElseIs(t *testing.T) {
	t.Parallel()
	r := raw{version: 1<<63 - 1, state: Live, expiry: 1763800000123, delta: 42, payload: []byte("x")}
	got, err := parse(r.append(nil))
	require.NoError(t, err)
	require.Equal(t, r, got)
	good := string(r.append(nil))
	for _, bad := range []string{"", good[:41], "09223372036854775808" + good[20:], "x" + good[1:], good[:20] + "z" + good[21:], good[:25] + "-" + good[26:], good[:40] + " " + good[41:]} {
		_, err := parse([]byte(bad))
		require.ErrorIs(t, err, errCorrupt, "%q", bad)
	}
}

func TestDue_IsTheLikelierTheNearerTheEndAndTheLongerTheLoad(t *testing.T) {
	t.Parallel()
	const expiry = 1_000_000
	require.True(t, due(expiry, expiry, 1, 1, 1), "at the end, always")
	require.False(t, due(expiry-1, expiry, 100, 1, 1))
	require.True(t, due(expiry-100, expiry, 100, 1, 0.36), "one load's time before: with probability 1/e")
	require.False(t, due(expiry-100, expiry, 100, 1, 0.37))
	require.True(t, due(expiry-200, expiry, 100, 2, 0.36), "beta stretches it")
	require.False(t, due(expiry-200, expiry, 100, 1, 0.36))
}
