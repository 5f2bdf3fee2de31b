"""Maps into Euclidean space, their derivatives, and the curvature of what they induce."""
