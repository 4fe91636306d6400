import torch
from resattn.models.registry import list_variants, build_described
with torch.device("meta"):
    for v in list_variants():
        bad={}
        n=build_described(v,num_classes=10,options={}).train()
        for s in (8,16,24,32,40,48,56,64,72,88,96,100,104,128,160):
            try:
                n(torch.empty(2,3,s,s)); n.forward_with_masks(torch.empty(2,3,s,s))
            except Exception as e: bad[s]=str(e)[:80]
        print(v,bad)
