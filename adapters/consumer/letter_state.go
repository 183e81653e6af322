package consumer

// State is what became of a dead letter.
type State string

// The states. Only open letters are offered to Replay, Skip, Discard and Park.
const (
	StateOpen      State = "open"
	StateReplayed  State = "replayed"  // sent back to its topic
	StateSkipped   State = "skipped"   // dealt with by other means
	StateDiscarded State = "discarded" // given up
	StateParked    State = "parked"    // moved to the parking topic
	StateSettled   State = "settled"   // one of these four, by an act that no Book has recorded
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

// state is the state of a letter after the action.
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
	return StateSettled
}
