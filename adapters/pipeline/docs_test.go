package pipeline_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

func page(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/embedding.md")
	require.NoError(t, err)
	var blocks []string
	for _, b := range goBlock.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, b[1])
	}
	require.Len(t, blocks, 2)
	return blocks
}

// The first program of the page is pasted, built and run as it stands.
func TestEmbeddingPage_SmallestServiceRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "service")
	require.NoError(t, os.WriteFile(source, []byte(page(t)[0]), 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, source).CombinedOutput()
	require.NoError(t, err, "%s", out)

	db := harness.EmptyDatabase(t)
	kafka := harness.PrivateKafka(t, harness.KafkaConfig{Twin: true})
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := lab.StartProgram(t, lab.ProgramConfig{Path: program, Env: []string{
		"DATABASE_URL=" + db.DSN, "KAFKA_BROKERS=" + strings.Join(kafka.Brokers(), ","), "ADDR=" + addr,
	}})
	harness.Await(t, within, "the service is ready", func(ctx context.Context) error {
		if status, _, text := request(ctx, http.MethodGet, "http://"+addr+"/readyz", ""); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	status, _, text := request(t.Context(), http.MethodPost, "http://"+addr+"/orders/17", "")
	require.Equal(t, http.StatusOK, status, text)
	p.AwaitOutput("mail about order 17", within)
	status, _, text = request(t.Context(), http.MethodGet, "http://"+addr+"/orders/17", "")
	require.Equal(t, http.StatusMethodNotAllowed, status, text)
	status, _, text = request(t.Context(), http.MethodPost, "http://"+addr+"/orders/a%22b", "")
	require.Equal(t, http.StatusOK, status, text)
	p.AwaitOutput(`mail about order a"b`, within) // JSON whatever the id is
	require.Zero(t, p.Terminate(within))
}

// The other code of the page is that of the examples.
func TestEmbeddingPage_ShowsCodeThatIsCompiled(t *testing.T) {
	t.Parallel()
	examples, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	for _, b := range page(t)[1:] {
		indented := regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(b, "\t$1")
		require.Contains(t, string(examples), indented)
	}
}
