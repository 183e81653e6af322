package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/secret"
)

func TestText_IsMaskedHoweverPrinted(t *testing.T) {
	t.Parallel()
	text := secret.Text("hunter2")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("hello", "s", text)
	printed, err := json.Marshal(map[string]any{"s": text, "log": log.String()})
	require.NoError(t, err)
	type holder struct{ S secret.Text }
	dump := string(printed) + fmt.Sprintf("%v %s %q %x %d %#v %+v", text, text, text, text, text, text, holder{text})
	require.NotContains(t, dump, "hunter2")
	require.NotContains(t, dump, "68756e746572")
	require.Contains(t, dump, "[redacted]")
	require.Equal(t, "hunter2", text.Reveal())
	require.Empty(t, secret.Text("").String())
}
