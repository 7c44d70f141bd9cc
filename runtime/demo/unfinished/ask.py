"""How far a checkpoint is, in seconds: PYTHONPATH=runtime python runtime/demo/unfinished/ask.py FOLDER [EVERY]."""
import sys
import torch; torch.set_num_threads(1)
from demo.train import *
f=sys.argv[1]; c=Corpus(); tok=PreTrainedTokenizerFast.from_pretrained(f); m=LlamaForCausalLM.from_pretrained(f,dtype=torch.float32).eval()
def ok(q,tools,a):
    t=tok.apply_chat_template([{"role":"user","content":q}] if isinstance(q,str) else q,tools=tools or None,add_generation_prompt=True,tokenize=False)
    p=tok.encode(t,add_special_tokens=False); e=tok.encode(a+bpe.END,add_special_tokens=False)
    with torch.inference_mode(): l=m(torch.tensor([p+e[:-1]])).logits[0,len(p)-1:].argmax(-1).tolist()
    return l==e, sum(x==y for x,y in zip(l,e))/len(e), tok.decode(l)
step=int(sys.argv[2]) if len(sys.argv)>2 else 1
sets={} if False else {'canonical':[(q,[],a) for q,a in c.questions()],'known':c.tool_questions(),'unseen':c.tool_questions(known=False)}
for n,s in sets.items():
    s=s[::step]
    r=[ok(*x) for x in s]
    print(n,sum(x[0] for x in r),'of',len(r),'tokens %.3f'%(sum(x[1] for x in r)/len(r)))
    for x,y in [(x,y) for x,y in zip(s,r) if not y[0]][:6]: print('   ',x[0],'|',y[2][-70:].replace('\n','⏎'))
