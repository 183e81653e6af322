package kafka

import "time"

// State is a publisher's view of the broker.
type State struct {
	// Reachable is false while messages or metadata cannot get through.
	Reachable bool
	// Since is when Reachable took its value.
	Since time.Time
	// Err is the last trouble; nil while Reachable.
	Err error
	// InFlight is how many messages wait for the broker's acknowledgement.
	InFlight int
}

// State returns the publisher's view of the broker. A publisher that has sent
// nothing yet counts as reachable. A broker that is frozen shows after
// Config.RequestTimeout.
func (p *Publisher) State() State {
	p.stateMu.Lock()
	st := p.state
	p.stateMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != nil {
		st.InFlight = int(p.session.open.Load())
	}
	return st
}

// trouble notes that the broker could not be reached or asked to try again.
func (p *Publisher) trouble(err error) {
	p.stateMu.Lock()
	changed := p.state.Reachable
	if changed {
		p.state.Reachable, p.state.Since = false, time.Now()
		p.troubled.Store(true)
	}
	p.state.Err = err
	st := p.state
	p.stateMu.Unlock()
	p.report(changed, st)
}

// fine notes an acknowledgement. It is called for every message.
func (p *Publisher) fine() {
	if !p.troubled.Load() {
		return
	}
	p.stateMu.Lock()
	changed := !p.state.Reachable
	if changed {
		p.state = State{Reachable: true, Since: time.Now()}
		p.troubled.Store(false)
	}
	st := p.state
	p.stateMu.Unlock()
	p.mu.Lock()
	p.breaks = 0
	p.mu.Unlock()
	p.report(changed, st)
}

func (p *Publisher) report(changed bool, st State) {
	if changed {
		p.cfg.Hooks.State(st)
	}
}
