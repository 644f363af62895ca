package flow

// KeyGroups is the number of groups that keys are hashed into. State is stored by group, and a task owns a run of groups.
const KeyGroups = 1024

// Slot is the dense number of a key within one task. Slots of one page (64 in a row) hold keys of one key group.
type Slot uint32

// PageSize is how many slots make a page.
const PageSize = 64

// Page is the number of a page: slot / PageSize.
func (s Slot) Page() uint32 { return uint32(s) / PageSize }
