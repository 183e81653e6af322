package cache

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The part of RESP3 that the near link needs: commands of strings, and whatever
// may come back.

// respPush is a message that Redis sends by itself.
type respPush []any

// respError is an error reply.
type respError string

func (e respError) Error() string { return string(e) }

func respCommand(words ...string) []byte {
	b := append(strconv.AppendInt([]byte{'*'}, int64(len(words)), 10), "\r\n"...)
	for _, w := range words {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(w)), 10), "\r\n"...)
		b = append(append(b, w...), "\r\n"...)
	}
	return b
}

// The most that is taken from a connection in one value.
const (
	respDepth = 8
	respItems = 1 << 20
	respBytes = 64 << 20
)

var errRESP = errors.New("not RESP3")

type respReader struct{ r *bufio.Reader }

func newRespReader(r io.Reader) *respReader { return &respReader{bufio.NewReaderSize(r, 16<<10)} }

// next returns the next value: string, int64, nil, []any (maps are flat),
// respError or respPush. Other simple values come as their text.
func (p *respReader) next() (any, error) { return p.value(respDepth) }

func (p *respReader) value(depth int) (any, error) {
	line, err := p.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' || depth == 0 {
		return nil, fmt.Errorf("%w: %.20q", errRESP, line)
	}
	kind, text := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+', ',', '#', '(':
		return text, nil
	case '-':
		return respError(text), nil
	case '_':
		return nil, nil
	case ':':
		return strconv.ParseInt(text, 10, 64)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%w: length %.20q", errRESP, text)
	}
	return p.aggregate(kind, n, depth)
}

func (p *respReader) aggregate(kind byte, n, depth int) (any, error) {
	if n == -1 {
		return nil, nil
	}
	switch kind {
	case '$', '=', '!':
		return p.bulk(kind, n)
	case '*', '~':
		return p.items(n, depth)
	case '%':
		return p.items(2*n, depth)
	case '|': // attributes of the value that follows
		if _, err := p.items(2*n, depth); err != nil {
			return nil, err
		}
		return p.value(depth - 1)
	case '>':
		items, err := p.items(n, depth)
		return respPush(items), err
	}
	return nil, fmt.Errorf("%w: type %q", errRESP, kind)
}

func (p *respReader) bulk(kind byte, n int) (any, error) {
	if n < 0 || n > respBytes {
		return nil, fmt.Errorf("%w: %d bytes", errRESP, n)
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(p.r, b); err != nil {
		return nil, err
	}
	if kind == '!' {
		return respError(b[:n]), nil
	}
	return string(b[:n]), nil
}

func (p *respReader) items(n, depth int) ([]any, error) {
	if n < 0 || n > respItems {
		return nil, fmt.Errorf("%w: %d items", errRESP, n)
	}
	items := make([]any, 0, min(n, 1024))
	for range n {
		v, err := p.value(depth - 1)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	return items, nil
}
