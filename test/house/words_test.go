package house_test

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// retired are words and names that this code once used, with what it uses now.
// docs/glossary.md has the meaning of the words that stay.
var retired = []struct{ pattern, instead string }{
	{`doorbell|\bringer\b|\brings? (?:it|the)\b|\bhangs? out\b`, "listener, notifier, notify"},
	{`roster|\broll\b|\bseats?\b`, "members, member list, member"},
	{`(?-i:\bTogether\b|NewTogether|TogetherConfig)|together_commit`, "EntityWriter, entity_writer_commit"},
	{`\bletters?\b`, "dead letter"},
	{`hearsay|grievance|latecomers?|slumber|distrust|befall|befell|dawdl|\bflown\b|\blingers?\b`, "what it is, in the field's word"},
	{`\bclerks?\b|janitor|\bscribes?\b|\bwarden\b`, "shared servers, cleaner, writer, checker"},
	{`\bmend(?:s|ed|ing)?\b`, "fix, correct, repair"},
	{`\bfor ever\b|\banew\b|\bwhoever\b|ever more seldom|\bseldom\b`, "forever, again, anyone who, less and less often"},
	{`\bthat is none\b|\btold of\b|\btells of\b`, "is not one, reported, reports"},
	{`\bbur(?:y|ies|ied|ying)\b`, "publish a dead letter, write a tombstone"},
	{`\bcom(?:e|es|ing) home\b|\bhome completely\b`, "acknowledged"},
}

// keptWords are phrases that contain a retired word and are right as they are,
// and files in which retired words stand for a reason.
var (
	keptWords = regexp.MustCompile(`(?i)dead[-\s/#]*letters?\b|roll(s|ed|ing)? (it |them )?back|dead[- ]letter-|upper-? ?case letters?|capital letters?|ASCII letters?|letters?,? (and |or )?digits?|letters and|outbox_(enable_)?doorbell|outbox_ring(_trigger)?|outbox_roster|no-doorbell|NO_DOORBELL|00002_doorbell|00010_roster`)
	wordFiles = patterns{
		allow: []string{"CHANGELOG.md", "docs/glossary.md", "test/house/words_test.go", "go.sum", "sql/outbox/...", "sql/service/...", "adapters/consumer/deadletter/audit/queries.go"},
	}
)

// TestWords_RetiredOnesStayRetired reads every text file of the repository.
func TestWords_RetiredOnesStayRetired(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil { // an archive of the repository has no git
		t.Logf("git ls-files: %v; reading Go files only", err)
	}
	files := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	read := 0
	for _, file := range files {
		if !slices.Contains([]string{".go", ".md", ".sql", ".yaml", ".yml", ".json", ".txt", ".sh"}, path.Ext(file)) || wordFiles.match(file) {
			continue
		}
		text, err := os.ReadFile("../../" + file)
		if os.IsNotExist(err) {
			continue // deleted and not committed yet
		}
		require.NoError(t, err)
		read++
		for _, f := range retiredIn(file, string(text)) {
			t.Error(f)
		}
	}
	require.Greater(t, read, 300, "almost nothing was read: the rule would hold of an empty tree")
}

func TestWords_RetiredOnesAreFound(t *testing.T) {
	t.Parallel()
	require.Empty(t, retiredIn("a.go", "// a dead letter, a DeadLetter; letters and digits; the listener is notified"))
	for _, text := range []string{"the doorbell", "newDoorbell()", "a letter", "MemoryRoster", "to mend", "for ever", "scribe", "the roll", "Together.Commit"} {
		require.NotEmpty(t, retiredIn("a.go", text), text)
	}
	require.Empty(t, retiredIn("a.go", "subscribe, describe, recommend, recommended"), "parts of other words")
}

// retiredWords matches any of them, each in a group of its own.
var retiredWords = func() *regexp.Regexp {
	var all []string
	for _, r := range retired {
		all = append(all, "("+r.pattern+")")
	}
	return regexp.MustCompile(`(?i)` + strings.Join(all, "|"))
}()

// retiredIn lists the retired words of a text, with their lines.
func retiredIn(file, text string) (found []finding) {
	text = keptWords.ReplaceAllStringFunc(text, func(kept string) string { return strings.Repeat("\n", strings.Count(kept, "\n")) })
	for _, m := range retiredWords.FindAllStringSubmatchIndex(text, -1) {
		for i := range retired {
			if m[2*i+2] >= 0 {
				line := 1 + strings.Count(text[:m[0]], "\n")
				found = append(found, finding{file + ":" + strconv.Itoa(line), "word", text[m[0]:m[1]] + ": write " + retired[i].instead})
			}
		}
	}
	return found
}
