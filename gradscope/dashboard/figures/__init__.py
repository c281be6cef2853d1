"""One file a figure: `…_data` turns a run into plain values, `draw_…` turns those into what plotly draws."""
