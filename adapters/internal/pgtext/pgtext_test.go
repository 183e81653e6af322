package pgtext_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/pgtext"
)

func TestStorable_ReplacesWhatPostgresRefuses(t *testing.T) {
	t.Parallel()
	require.Equal(t, "größe", pgtext.Storable("größe"))
	require.Equal(t, "a\uFFFDb", pgtext.Storable("a\x00b"))
	require.Equal(t, "a\uFFFDb", pgtext.Storable("a\xff\xfeb"))
	require.Empty(t, pgtext.Storable(""))
}

func TestCut_BoundsTheText(t *testing.T) {
	t.Parallel()
	require.Equal(t, "abc", pgtext.Cut("abcdef", 3))
	require.Equal(t, "abc", pgtext.Cut("abc", 3))
	require.Equal(t, "a\uFFFD", pgtext.Cut("aö", 2), "half a rune is replaced")
	require.LessOrEqual(t, len(pgtext.Cut(strings.Repeat("ö", 4096), 4095)), 4097)
}
