package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/millrace-go/millrace/adapters/telemetry"
	"github.com/millrace-go/millrace/cmd/notifier/service"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `notifier [flags]
notifier rebuild VIEW [flags]

Without a command it runs the service. notifier rebuild --help explains how to
build a view in Redis again.

Flags win over the environment; the token for the gateway is taken from the
environment alone [GATEWAY_TOKEN]. Servers that do not answer are waited for; a
wrong configuration ends the program with code 2, all of it reported at once.

`

// Process is what the program has of its surroundings.
type Process struct {
	Out, Err io.Writer
	Getenv   func(string) string
}

// Interrupted is the cause of a context that a signal cancelled.
type Interrupted struct{ Signal syscall.Signal }

func (i Interrupted) Error() string { return "interrupted: " + i.Signal.String() }

// Run reads flags and environment, runs the service until ctx ends, or the command
// that args name, and returns the exit code. Logs and errors go to p.Err.
func Run(ctx context.Context, args []string, p Process) int {
	if len(args) > 0 && args[0] == "rebuild" {
		return rebuildView(ctx, args[1:], p)
	}
	stderr := p.Err
	cfg, err := parse(args, p.Getenv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err = errors.Join(err, cfg.Validate()); err != nil {
		report(stderr, err)
		fmt.Fprintln(stderr, "notifier: see notifier --help")
		return exitUsage
	}
	if err := service.Run(ctx, cfg); err != nil {
		report(stderr, err)
		return exitFailed
	}
	return exitOK
}

func report(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(w, "notifier:", line)
	}
}

// parse returns the configuration that args and environment give. It does not
// stop at the first unknown flag.
func parse(args []string, getenv func(string) string, stderr io.Writer) (service.Config, error) {
	var cfg service.Config
	cfg.Sending.Token = getenv("GATEWAY_TOKEN") // no flag: the command lines of processes are for all to see
	var brokers, format, level string
	fs := flag.NewFlagSet("notifier", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&cfg.DatabaseURL, "postgres", getenv("DATABASE_URL"), "Postgres address [DATABASE_URL]")
	fs.StringVar(&brokers, "kafka", getenv("KAFKA_BROKERS"), "Kafka bootstrap addresses, separated by commas [KAFKA_BROKERS]")
	fs.StringVar(&cfg.RedisURL, "redis", getenv("REDIS_URL"), "Redis address [REDIS_URL]")
	fs.StringVar(&cfg.Sending.Gateway, "gateway", getenv("GATEWAY_URL"), "address of the gateway that delivers notifications; without one nothing is sent [GATEWAY_URL]")
	fs.StringVar(&cfg.Addr, "addr", getenv("NOTIFIER_ADDR"), "where the HTTP API listens, by default :8080 [NOTIFIER_ADDR]")
	fs.BoolVar(&cfg.Migrate, "migrate", false, "apply pending migrations at start")
	fs.Func("partitions", "partitions of each topic that is missing, a whole `number`, by default 6; -1 makes none", func(v string) (err error) {
		if cfg.Partitions, err = strconv.Atoi(v); err != nil {
			return errors.New("give a whole number")
		}
		return nil
	})
	fs.StringVar(&cfg.Relay, "relay-name", "", "name of the relay, by default relay")
	fs.StringVar(&cfg.Repository, "repository", "", "repositories to write through: sql, the default, or orm")
	fs.Func("session-life", "how long a login is good for, a `duration`, by default 12h", func(v string) (err error) {
		if cfg.SessionLife, err = time.ParseDuration(v); err != nil {
			return errors.New("give a duration such as 12h")
		}
		return nil
	})
	fs.StringVar(&format, "log-format", "text", "text or json")
	fs.StringVar(&level, "log-level", "info", "debug, info, warn or error")

	var errs []error
	for rest := args; ; rest = fs.Args() { // after an error the flag is used up
		err := fs.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, usage)
			hideSecrets(fs)
			fs.SetOutput(stderr)
			fs.PrintDefaults()
			return cfg, err
		}
		if err == nil {
			break
		}
		errs = append(errs, err)
	}
	for _, arg := range fs.Args() {
		errs = append(errs, fmt.Errorf("unexpected argument %q", arg))
	}
	for b := range strings.SplitSeq(brokers, ",") {
		if b = strings.TrimSpace(b); b != "" {
			cfg.Brokers = append(cfg.Brokers, b)
		}
	}
	logger, err := newLogger(stderr, format, level)
	cfg.Logger = logger
	cfg.Listening = func(addr string) { logger.Info("http api listens", "address", addr) }
	return cfg, errors.Join(append(errs, err)...)
}

// hideSecrets keeps what comes from the environment out of the help text.
func hideSecrets(fs *flag.FlagSet) {
	for _, name := range []string{"postgres", "kafka", "redis", "gateway", "addr"} {
		fs.Lookup(name).DefValue = ""
	}
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var errs []error
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		errs = append(errs, fmt.Errorf("log-level: %q is not debug, info, warn or error", level))
	}
	opts := &slog.HandlerOptions{Level: least}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	switch format {
	case "text":
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		errs = append(errs, fmt.Errorf("log-format: %q is not text or json", format))
	}
	return slog.New(telemetry.NewHandler(h)), errors.Join(errs...)
}
