package proc

// collect lists everything below root in a map from parents to children.
func collect(children map[int][]int, root int) []int {
	var all []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all
}
