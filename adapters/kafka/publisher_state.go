package kafka

import "time"

// State is a publisher's view of the broker.
type State struct {
	// Reachable is false while messages or metadata cannot get through.
	Reachable bool
	// Since is when Reachable took its value.
	Since time.Time
	// Err is why the broker was not reachable last; nil while Reachable.
	Err error
	// InFlight is how many messages wait for the broker's acknowledgement.
	InFlight int
}

// State returns the publisher's view of the broker. A publisher that has sent
// nothing yet counts as reachable. A frozen broker is noticed after
// Config.RequestTimeout.
func (p *Publisher) State() State {
	p.stateMu.Lock()
	st := p.state
	p.stateMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.producer != nil {
		st.InFlight = int(p.producer.open.Load())
	}
	return st
}

// unreachable records that the broker could not be reached or asked to try again.
func (p *Publisher) unreachable(err error) {
	p.stateMu.Lock()
	changed := p.state.Reachable
	if changed {
		p.state.Reachable, p.state.Since = false, time.Now()
		p.isUnreachable.Store(true)
	}
	p.state.Err = err
	st := p.state
	p.stateMu.Unlock()
	p.reportState(changed, st)
}

// acknowledged records an acknowledgement. It is called for every message.
func (p *Publisher) acknowledged() {
	if !p.isUnreachable.Load() {
		return
	}
	p.stateMu.Lock()
	changed := !p.state.Reachable
	if changed {
		p.state = State{Reachable: true, Since: time.Now()}
		p.isUnreachable.Store(false)
	}
	st := p.state
	p.stateMu.Unlock()
	p.mu.Lock()
	p.failuresInRow = 0
	p.mu.Unlock()
	p.reportState(changed, st)
}

func (p *Publisher) reportState(changed bool, st State) {
	if changed {
		p.cfg.Hooks.State(st)
	}
}
