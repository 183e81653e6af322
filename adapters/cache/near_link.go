package cache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// layer is a near layer, of whatever type.
type layer interface {
	invalidate(key string)
	reset(link int64)
	confirm(at time.Time)
	staleness() time.Duration
}

// attached is a near layer and the prefix of its keys.
type attached struct {
	prefix string
	layer  layer
}

// attach makes Run keep a near layer fresh.
func (s *Store) attach(l layer, prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.layers = append(s.layers, attached{prefix, l})
}

// attachedNow returns the near layers. What is attached later is in a longer list.
func (s *Store) attachedNow() []attached {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.layers[:len(s.layers):len(s.layers)]
}

// Pauses of the link.
const (
	linkRetry  = 500 * time.Millisecond
	pingsAtOne = 5 // in the time of the strictest Staleness
)

// keepLink keeps a connection to Redis over which it announces changed keys, until
// ctx ends. go-redis's own client-side cache does not do: it promises neither a
// bound while a connection is silent nor that a reader never goes back.
func (s *Store) keepLink(ctx context.Context) {
	for number := int64(1); ctx.Err() == nil; number++ {
		layers := s.attachedNow()
		if len(layers) > 0 {
			if err := s.follow(ctx, number, layers); ctx.Err() == nil && !errors.Is(err, errMoreLayers) {
				s.cfg.Hooks.Trouble("near", fmt.Errorf("cache store: near link: %w", err))
			} else if ctx.Err() == nil {
				continue
			}
		}
		_ = wait(ctx, linkRetry)
	}
}

// follow opens one connection and does what it is told, until it breaks.
func (s *Store) follow(ctx context.Context, number int64, layers []attached) error {
	conn, err := s.dialLink(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	l := &link{conn: conn, read: newRespReader(conn), layers: layers, every: linkRetry * 2}
	for _, a := range layers {
		l.every = min(l.every, a.layer.staleness()/pingsAtOne)
	}
	if err := l.open(ctx, s.rdb.Options()); err != nil {
		return err
	}
	for _, a := range layers {
		a.layer.reset(number)
	}
	pinging := make(chan error, 1)
	stop := make(chan struct{})
	go func() { pinging <- l.ping(stop, func() bool { return len(s.attachedNow()) > len(layers) }) }()
	err = l.listen()
	close(stop)
	_ = conn.Close()
	if pingErr := <-pinging; errors.Is(pingErr, errMoreLayers) {
		return pingErr
	}
	return err
}

// dialLink dials as the client does, so also to the master that Sentinel names.
func (s *Store) dialLink(ctx context.Context) (net.Conn, error) {
	o := s.rdb.Options()
	ctx, cancel := context.WithTimeout(ctx, max(o.DialTimeout, 0))
	defer cancel()
	return o.Dialer(ctx, o.Network, o.Addr)
}

var errMoreLayers = errors.New("more near layers")

// link is one connection.
type link struct {
	conn   net.Conn
	read   *respReader
	layers []attached
	every  time.Duration // between pings
}

// open logs in and subscribes to changes of the layers' keys.
func (l *link) open(ctx context.Context, o *redis.Options) error {
	user, password, err := credentials(ctx, o)
	if err != nil {
		return err
	}
	hello := []string{"HELLO", "3"}
	if password != "" {
		if user == "" {
			user = "default"
		}
		hello = append(hello, "AUTH", user, password)
	}
	tracking := []string{"CLIENT", "TRACKING", "ON", "BCAST"}
	for _, a := range l.layers {
		tracking = append(tracking, "PREFIX", a.prefix)
	}
	_ = l.conn.SetDeadline(time.Now().Add(max(o.ReadTimeout, l.every)))
	for _, command := range [][]string{hello, {"CLIENT", "SETNAME", "millrace-near"}, tracking} {
		if _, err := l.conn.Write(respCommand(command...)); err != nil {
			return err
		}
		if answer, err := l.read.next(); err != nil {
			return err
		} else if refused, ok := answer.(respError); ok {
			return fmt.Errorf("%s: %w", command[0], refused)
		}
	}
	return l.conn.SetDeadline(time.Time{})
}

func credentials(ctx context.Context, o *redis.Options) (user, password string, err error) {
	switch {
	case o.StreamingCredentialsProvider != nil:
		return "", "", errors.New("near layers do not work with a StreamingCredentialsProvider")
	case o.CredentialsProviderContext != nil:
		return o.CredentialsProviderContext(ctx)
	case o.CredentialsProvider != nil:
		user, password = o.CredentialsProvider()
		return user, password, nil
	}
	return o.Username, o.Password, nil
}

// ping asks for a sign of life again and again. Each ping says when it was sent,
// and its answer repeats that.
func (l *link) ping(stop <-chan struct{}, more func() bool) error {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		if more() {
			_ = l.conn.Close()
			return errMoreLayers
		}
		_ = l.conn.SetWriteDeadline(time.Now().Add(pingsAtOne * l.every))
		if _, err := l.conn.Write(respCommand("PING", strconv.FormatInt(int64(time.Since(started)), 10))); err != nil {
			_ = l.conn.Close()
			return err
		}
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
	}
}

// listen reads until the connection breaks or is silent for too long. What Redis
// changed before it read a ping it has told before it answers the next one, so an
// answer confirms the time at which the ping before was sent.
func (l *link) listen() error {
	var before time.Time
	for {
		_ = l.conn.SetReadDeadline(time.Now().Add(2 * pingsAtOne * l.every))
		answer, err := l.read.next()
		if err != nil {
			return err
		}
		switch a := answer.(type) {
		case respPush:
			l.told(a)
		case string:
			sent, err := strconv.ParseInt(a, 10, 64)
			if err != nil {
				return fmt.Errorf("answer to a ping: %w", err)
			}
			if !before.IsZero() {
				for _, to := range l.layers {
					to.layer.confirm(before)
				}
			}
			before = started.Add(time.Duration(sent))
		case respError:
			return a
		default:
			return fmt.Errorf("%w: unexpected %T", errRESP, answer)
		}
	}
}

// told passes an invalidation on. One without keys is about all of them.
func (l *link) told(push respPush) {
	if len(push) != 2 || push[0] != "invalidate" {
		return
	}
	keys, some := push[1].([]any)
	if !some {
		for _, a := range l.layers {
			a.layer.reset(-time.Now().UnixNano()) // no connection has this number
		}
		return
	}
	for _, k := range keys {
		key, _ := k.(string)
		for _, a := range l.layers {
			if strings.HasPrefix(key, a.prefix) {
				a.layer.invalidate(key)
			}
		}
	}
}
