package hook_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/hook"
)

func TestFill_KeepsWhatIsThereAndReplacesNil(t *testing.T) {
	t.Parallel()
	var none0 func()
	var none1 func(int)
	var none2 func(int, string)
	hook.Fill0(&none0)
	hook.Fill1(&none1)
	hook.Fill2(&none2)
	none0()
	none1(1)
	none2(1, "a")

	called := 0
	own0, own1, own2 := func() { called++ }, func(n int) { called += n }, func(n int, _ string) { called += n }
	hook.Fill0(&own0)
	hook.Fill1(&own1)
	hook.Fill2(&own2)
	own0()
	own1(10)
	own2(100, "a")
	require.Equal(t, 111, called)
}

func TestTee_CallsBothInOrder(t *testing.T) {
	t.Parallel()
	var calls []string
	say := func(who string) func() { return func() { calls = append(calls, who) } }
	say1 := func(who string) func(string) { return func(a string) { calls = append(calls, who+a) } }
	say2 := func(who string) func(string, string) { return func(a, b string) { calls = append(calls, who+a+b) } }

	hook.Tee0(say("a"), say("b"))()
	hook.Tee0(nil, say("c"))()
	hook.Tee0(say("d"), nil)()
	hook.Tee1(say1("e"), say1("f"))("1")
	hook.Tee1(nil, say1("g"))("1")
	hook.Tee1(say1("h"), nil)("1")
	hook.Tee2(say2("i"), say2("j"))("1", "2")
	hook.Tee2(nil, say2("k"))("1", "2")
	hook.Tee2(say2("l"), nil)("1", "2")
	require.Equal(t, []string{"a", "b", "c", "d", "e1", "f1", "g1", "h1", "i12", "j12", "k12", "l12"}, calls)

	require.Nil(t, hook.Tee0(nil, nil))
	require.Nil(t, hook.Tee1[int](nil, nil))
	require.Nil(t, hook.Tee2[int, int](nil, nil))
}
