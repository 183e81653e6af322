package deadletter

// State is what became of a dead letter.
type State string

// The states. Replay, Skip, Discard and Park work on open dead letters only.
const (
	StateOpen      State = "open"
	StateReplayed  State = "replayed"  // sent back to its topic
	StateSkipped   State = "skipped"   // dealt with by other means
	StateDiscarded State = "discarded" // given up
	StateParked    State = "parked"    // moved to the parking topic
	StateResolved  State = "resolved"  // one of these four, by an operation that no AuditLog has recorded
)

// Action is what a person does with dead letters.
type Action string

// The actions.
const (
	ActionReplay  Action = "replay"
	ActionSkip    Action = "skip"
	ActionDiscard Action = "discard"
	ActionPark    Action = "park"
)

// state is the state of a dead letter after the action.
func (a Action) state() State {
	switch a {
	case ActionReplay:
		return StateReplayed
	case ActionSkip:
		return StateSkipped
	case ActionDiscard:
		return StateDiscarded
	case ActionPark:
		return StateParked
	}
	return StateResolved
}

// sends reports whether the action publishes messages.
func (a Action) sends() bool { return a == ActionReplay || a == ActionPark }
