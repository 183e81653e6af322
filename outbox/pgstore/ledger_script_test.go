package pgstore

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/millrace-go/millrace/outbox"
)

// TestLedger_Scripts runs the scripts in testdata/ledger. Each has transactions, named
// by a character, that write to a log, and a reader that polls it. With -rewrite the
// test writes what it saw into the scripts.
//
// The commands of a script:
//
//	A inserts            A locks the sequence, draws the next position and stores a row
//	A begins             A locks the sequence and has no transaction id yet
//	A commits            its rows become visible, and it frees its locks
//	A becomes visible    the same, but its locks remain until "A ends"
//	A rolls back         its rows are gone, and it frees its locks
//	A prepares           PREPARE TRANSACTION: it keeps its locks
//	crash                the server crashes: only prepared transactions survive it
//	look [guarded]       the reader's statement (a); guarded leaves out gaps whose suspects all run
//	read [limit=n]       the reader's statement (b)
//	poll [...]           look, then read
//	restart              another reader goes on from the saved cursor
func TestLedger_Scripts(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/ledger", func(t *testing.T, path string) {
		w := &ledgerScript{ledger: newLedger(outbox.Cursor{}), txs: map[string]*scriptTx{}, visible: map[int64]bool{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				if err := w.do(&out, strings.Fields(line)); err != nil {
					d.Fatalf(t, "%s: %v", strings.TrimSpace(line), err)
				}
			}
			return out.String()
		})
	})
}

// ledgerScript is a log and its reader.
type ledgerScript struct {
	ledger  *ledger
	probe   probe
	seq     int64
	started int
	txs     map[string]*scriptTx // that hold the sequence's lock, by name
	visible map[int64]bool       // positions of committed rows
	names   []string             // of all transactions so far; the index is in their virtual id
}

type scriptTx struct {
	holder
	rows     []int64
	prepared bool
}

func (w *ledgerScript) do(out *strings.Builder, words []string) error {
	switch verb := strings.Join(words[1:], " "); {
	case words[0] == "crash":
		w.crash()
	case words[0] == "restart":
		w.ledger = newLedger(w.ledger.cursor())
	case words[0] == "look":
		w.look(out, slices.Contains(words, "guarded"))
	case words[0] == "read":
		return w.read(out, words[1:])
	case words[0] == "poll":
		w.look(out, slices.Contains(words, "guarded"))
		return w.read(out, slices.DeleteFunc(words[1:], func(s string) bool { return s == "guarded" }))
	case verb == "begins":
		w.begin(words[0])
	case verb == "inserts":
		w.insert(out, words[0])
	default:
		return w.end(words[0], verb)
	}
	return nil
}

func (w *ledgerScript) begin(name string) *scriptTx {
	tx := w.txs[name]
	if tx == nil {
		w.names = append(w.names, name)
		tx = &scriptTx{holder: holder{virtual: fmt.Sprintf("3/%d", len(w.names))}}
		w.txs[name] = tx
	}
	return tx
}

func (w *ledgerScript) insert(out *strings.Builder, name string) {
	tx := w.begin(name)
	w.seq++
	if tx.xid == "" {
		w.started++
		tx.xid = strconv.Itoa(100 + w.started)
	}
	tx.rows = append(tx.rows, w.seq)
	fmt.Fprintf(out, "%s draws %d\n", name, w.seq)
}

// end ends a transaction, or makes its rows visible before that.
func (w *ledgerScript) end(name, verb string) error {
	tx := w.txs[name]
	if tx == nil {
		return fmt.Errorf("%s does not run", name)
	}
	switch verb {
	case "prepares":
		tx.prepared = true
		return nil
	case "commits", "becomes visible":
		for _, p := range tx.rows {
			w.visible[p] = true
		}
	case "rolls back", "ends":
	default:
		return fmt.Errorf("%q is not a command", verb)
	}
	if verb != "becomes visible" {
		delete(w.txs, name)
	}
	return nil
}

func (w *ledgerScript) crash() {
	for name, tx := range w.txs {
		if !tx.prepared {
			delete(w.txs, name)
		}
		tx.virtual = "-1/" + tx.xid
	}
}

// look is (a). It shows who holds the sequence's lock and what (b) will read.
func (w *ledgerScript) look(out *strings.Builder, guarded bool) {
	var holders []holder
	names := slices.Sorted(maps.Keys(w.txs))
	for _, name := range names {
		holders = append(holders, w.txs[name].holder)
	}
	w.probe = w.ledger.observe(holders, guarded)
	fmt.Fprintf(out, "(a) holders: %s; gaps to read: %s", list(names), rangesText(w.probe.ranges))
	if w.probe.skipped != nil {
		fmt.Fprintf(out, "; left out while these run: %s", list(w.ofXids(w.probe.skipped)))
	}
	out.WriteByte('\n')
}

// read is (b). It shows which positions one snapshot has, and the cursor after them.
func (w *ledgerScript) read(out *strings.Builder, options []string) error {
	limit := 1000
	for _, o := range options {
		n, err := strconv.Atoi(strings.TrimPrefix(o, "limit="))
		if err != nil {
			return fmt.Errorf("option %q: %w", o, err)
		}
		limit = n
	}
	var found []int64
	for _, p := range slices.Sorted(maps.Keys(w.visible)) {
		inGap := slices.ContainsFunc(w.probe.ranges, func(r outbox.Range) bool { return r.Lo <= p && p <= r.Hi })
		if (inGap || p > w.ledger.high) && len(found) < limit {
			found = append(found, p)
		}
	}
	cut := len(found) == limit
	moved := w.ledger.apply(found, cut)
	fmt.Fprintf(out, "(b) found: %s", list(found))
	if cut {
		out.WriteString(" (cut)")
	}
	if !moved {
		out.WriteString("; nothing moved\n")
		return nil
	}
	fmt.Fprintf(out, "; cursor: %d", w.ledger.high)
	for i, r := range w.ledger.ranges {
		fmt.Fprintf(out, ", gap %s %s", rangesText([]outbox.Range{r}), w.suspects(w.ledger.cohorts[i]))
	}
	out.WriteByte('\n')
	return nil
}

// suspects names the transactions that may still fill a gap.
func (w *ledgerScript) suspects(c *cohort) string {
	if !c.known {
		return "(suspects not known)"
	}
	var names []string
	for virtual := range c.suspects {
		name := "prepared " + virtual
		if n, err := strconv.Atoi(strings.TrimPrefix(virtual, "3/")); err == nil {
			name = w.names[n-1]
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return "(suspects: " + list(names) + ")"
}

// ofXids names the transactions with these ids.
func (w *ledgerScript) ofXids(xids []string) (names []string) {
	for name, tx := range w.txs {
		if slices.Contains(xids, tx.xid) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func list[T any](items []T) string {
	if len(items) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(items), "[]")
}

func rangesText(ranges []outbox.Range) string {
	var texts []string
	for _, r := range ranges {
		if r.Lo == r.Hi {
			texts = append(texts, strconv.FormatInt(r.Lo, 10))
		} else {
			texts = append(texts, fmt.Sprintf("%d-%d", r.Lo, r.Hi))
		}
	}
	return list(texts)
}
